// What every page does with a script; without one all of it still reads and works.
"use strict";
(() => {
  const words = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });

  const ages = (root) => {
    for (const element of root.querySelectorAll("time[datetime]:not(.made time)")) {
      const moment = new Date(element.dateTime);
      if (!element.title) element.title = element.textContent;
      const seconds = (moment - Date.now()) / 1000;
      const size = Math.abs(seconds);
      if (size < 45) element.textContent = seconds > 0 ? "in a moment" : "just now";
      else if (size < 3600) element.textContent = words.format(Math.round(seconds / 60), "minute");
      else if (size < 86400) element.textContent = words.format(Math.round(seconds / 3600), "hour");
      else element.textContent = words.format(Math.round(seconds / 86400), "day");
    }
  };

  const copying = (root) => {
    for (const button of root.querySelectorAll("[data-copy]")) {
      button.hidden = false;
      if (button.dataset.ready) continue;
      button.dataset.ready = "1";
      button.addEventListener("click", async () => {
        const text = button.parentElement.querySelector("pre").textContent;
        try {
          await navigator.clipboard.writeText(text);
          button.textContent = "Copied";
        } catch {
          button.textContent = "Select and copy by hand";
        }
        setTimeout(() => { button.textContent = "Copy"; }, 2000);
      });
    }
  };

  const ready = (root) => { ages(root); copying(root); };
  document.addEventListener("DOMContentLoaded", () => {
    ready(document);
    setInterval(() => ages(document), 15000);
    // A form is sent once; the server holds to that as well.
    for (const form of document.querySelectorAll("form[method=post]:not([data-stays])")) {
      form.addEventListener("submit", () => {
        for (const button of form.querySelectorAll("button")) {
          button.setAttribute("aria-busy", "true");
          setTimeout(() => { button.disabled = true; }, 0);
        }
      });
    }
    const most = Number(document.body.dataset.uploadBytes);
    for (const input of document.querySelectorAll("input[type=file]")) {
      input.addEventListener("change", () => {
        const large = [...input.files].some((file) => file.size > most);
        input.setCustomValidity(large ? `Larger than ${most / 2 ** 30} GiB: put it into a bucket, and name the object.` : "");
      });
    }
    for (const select of document.querySelectorAll("select[data-submits]")) {
      select.addEventListener("change", () => select.form.requestSubmit());
    }
  });
  window.addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    for (const button of document.querySelectorAll("button[aria-busy]")) {
      button.removeAttribute("aria-busy");
      button.disabled = false;
    }
  });

  const offline = (is) => {
    const note = document.getElementById("offline");
    if (note) note.hidden = !is;
  };
  let chosen = [];
  let opened = [];
  document.addEventListener("htmx:configRequest", (event) => {
    const seen = event.detail.elt.dataset.seen;
    if (seen) event.detail.headers["X-Seen"] = seen;
  });
  document.addEventListener("htmx:beforeRequest", (event) => {
    // A tab that nobody sees asks for nothing, and neither does one whose text is being selected.
    const selected = window.getSelection();
    const inside = selected && !selected.isCollapsed && event.detail.elt.contains(selected.anchorNode);
    if (document.hidden || inside) event.preventDefault();
  });
  document.addEventListener("htmx:beforeSwap", (event) => {
    offline(false);
    if (event.detail.xhr.status === 403) window.location.reload();
    const target = event.detail.target;
    chosen = [...target.querySelectorAll("input:checked")].map((input) => `${input.name}=${input.value}`);
    opened = [...target.querySelectorAll("details")].map((details) => details.open);
  });
  document.addEventListener("htmx:afterSwap", () => {
    const live = document.getElementById("live");
    if (!live) return;
    for (const input of live.querySelectorAll("input[type=checkbox]")) {
      if (chosen.includes(`${input.name}=${input.value}`)) input.checked = true;
    }
    live.querySelectorAll("details").forEach((details, index) => { if (opened[index]) details.open = true; });
    ready(live);
  });
  document.addEventListener("htmx:afterRequest", (event) => { if (event.detail.xhr.status) offline(false); });
  document.addEventListener("htmx:sendError", () => offline(true));
})();
