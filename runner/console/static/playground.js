// A conversation that streams, with the tuned model and another one beside it.
"use strict";
(() => {
  const form = document.getElementById("talk");
  if (!form) return;
  const talk = document.getElementById("answers");
  const status = document.getElementById("talk-status");
  const stop = document.getElementById("stop");
  const fresh = document.getElementById("fresh");
  const histories = { tuned: [], base: [] };
  let running = null;

  const turn = (parent, who, text, kind) => {
    const box = document.createElement("div");
    box.className = `turn ${kind}`;
    const name = document.createElement("span");
    name.className = "who";
    name.textContent = who;
    const words = document.createElement("p");
    words.textContent = text;
    box.append(name, words);
    parent.append(box);
    return words;
  };
  // What a model says is only ever text.
  const unseen = /[\0-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u206f\ufeff]/g;
  const plain = (text) => text.replace(unseen, (sign) => {
    const code = sign.charCodeAt(0);
    return code < 256 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16)}`;
  });

  const answer = async (whom, words, signal) => {
    const body = new FormData(form);
    body.set("whom", whom);
    body.set("history", JSON.stringify(histories[whom === "base" ? "base" : "tuned"]));
    const began = performance.now();
    let text = "", pieces = 0, first = 0;
    const response = await fetch(form.action, { method: "POST", body, headers: { Accept: "text/event-stream" }, signal });
    if (!response.ok || !response.headers.get("content-type")?.startsWith("text/event-stream")) {
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      throw new Error(page.querySelector("[role=alert]:not([hidden])")?.textContent.trim() || `the console answered ${response.status}`);
    }
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      rest += value;
      const events = rest.split("\n\n");
      rest = events.pop();
      for (const event of events) {
        const said = JSON.parse(event.replace(/^data: /, ""));
        if (said.error) throw new Error(said.hint ? `${said.error} – ${said.hint}` : said.error);
        if (said.text) {
          first ||= performance.now() - began;
          pieces += 1;
          text += said.text;
          words.textContent = plain(text);
        }
        if (said.finish === "length") words.dataset.cut = "1";
      }
    }
    if (!text) words.textContent = "(nothing)";
    const seconds = (performance.now() - began) / 1000;
    const cut = words.dataset.cut ? "; cut at the token limit" : "";
    return { text, note: `${seconds.toFixed(1)} s, first piece after ${(first / 1000).toFixed(1)} s, ${pieces} pieces${cut}` };
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (running) return;
    const question = form.elements.question.value.trim();
    if (!question && !form.elements.picture?.files.length) { form.elements.question.focus(); return; }
    const other = form.elements.base.value;
    running = new AbortController();
    stop.hidden = false;
    fresh.hidden = false;
    status.textContent = "Answering";
    const row = document.createElement("div");
    turn(talk, "You", question, "user");
    row.className = "sides";
    talk.append(row);
    const sides = [["", "tuned", form.dataset.name]];
    if (other) sides.push(["base", "base", form.elements.base.selectedOptions[0].textContent]);
    const notes = await Promise.all(sides.map(async ([whom, side, name]) => {
      const cell = document.createElement("div");
      row.append(cell);
      const words = turn(cell, name, "…", "model");
      try {
        const { text, note } = await answer(whom, words, running.signal);
        histories[side].push({ role: "user", content: question }, { role: "assistant", content: text });
        const small = document.createElement("p");
        small.className = "dim";
        small.textContent = note;
        cell.append(small);
        return "";
      } catch (error) {
        const stopped = error.name === "AbortError";
        const small = document.createElement("p");
        small.className = "notice bad";
        small.textContent = stopped ? "Stopped." : plain(error.message);
        if (words.textContent === "…") words.textContent = "";
        cell.append(small);
        return stopped ? "Stopped." : "An answer failed.";
      }
    }));
    running = null;
    stop.hidden = true;
    status.textContent = notes.find(Boolean) || "Answered";
    if (!notes.some(Boolean)) {
      form.elements.question.value = "";
      if (form.elements.picture) form.elements.picture.value = "";
    }
    form.elements.question.focus();
    row.scrollIntoView({ block: "nearest" });
  });
  form.elements.question.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); form.requestSubmit(); }
  });
  stop.addEventListener("click", () => running?.abort());
  fresh.addEventListener("click", () => {
    histories.tuned = []; histories.base = [];
    talk.replaceChildren();
    fresh.hidden = true;
    status.textContent = "A new conversation";
    form.elements.question.focus();
  });
})();
