// The losses of a job as they come: raw faintly under smooth, validation as points, gaps left open.
"use strict";
(() => {
  const root = document.getElementById("charts");
  if (!root || typeof uPlot === "undefined") return;
  const form = document.getElementById("chart-options");
  form.hidden = false; // without this script it would do nothing
  const note = document.getElementById("chart-note");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const axes = { step: "step", epoch: "epoch", tokens: "tokens", seconds: "seconds" };
  const short = (value) => (value == null ? "–" : Number(value.toPrecision(5)).toString());
  let plots = [];
  let shape = "";
  let timer = 0;

  const address = () => {
    const parameters = new URLSearchParams(new FormData(form));
    return { page: `${location.pathname}?${parameters}`, data: `${root.dataset.metrics}?${parameters}` };
  };

  // Rows of the least and the greatest of each stretch: no spike is lost.
  const thin = (columns, most = 2000) => {
    const count = columns[0].length;
    if (count <= most) return columns;
    const kept = new Set([0, count - 1]);
    const stretch = Math.ceil(count / (most / 2));
    for (const column of columns.slice(1)) {
      for (let start = 0; start < count; start += stretch) {
        let low = start, high = start;
        for (let i = start; i < Math.min(count, start + stretch); i += 1) {
          if (column[i] == null) continue;
          if (column[low] == null || column[i] < column[low]) low = i;
          if (column[high] == null || column[i] > column[high]) high = i;
        }
        kept.add(low).add(high);
      }
    }
    const order = [...kept].sort((a, b) => a - b);
    return columns.map((column) => order.map((index) => column[index]));
  };

  const merge = (body) => {
    // Validation has x values of its own.
    const all = [...new Set([...body.x, ...body.validation.x])].sort((a, b) => a - b);
    const place = new Map(all.map((x, index) => [x, index]));
    const columns = [all, ...[0, 1, 2].map(() => new Array(all.length).fill(null))];
    body.x.forEach((x, index) => {
      columns[1][place.get(x)] = body.loss[index];
      columns[2][place.get(x)] = body.smooth[index];
    });
    body.validation.x.forEach((x, index) => { columns[3][place.get(x)] = body.validation.loss[index]; });
    return thin(columns);
  };

  // Where outliers are not shown the axis ends at the 98th of 100 losses; the rest is counted, never dropped.
  const limits = (columns, options) => {
    const finite = [columns[1], columns[2], columns[3]].flat().filter((value) => value != null && (!options.log || value > 0));
    if (!finite.length) return { range: [0, 1], outside: 0 };
    const order = [...finite].sort((a, b) => a - b);
    const low = order[0];
    let high = order[order.length - 1];
    const most = order[Math.floor((order.length - 1) * 0.98)];
    if (!options.outliers && high - low > 4 * (most - low || high - low)) high = most + 0.1 * (most - low);
    const outside = columns[1].filter((value) => value != null && value > high).length;
    if (options.log) return { range: [low * 0.9, high * 1.1], outside };
    const room = (high - low || Math.abs(high) || 1) * 0.06;
    return { range: [low - room, high + room], outside };
  };

  const frame = (title, extra) => {
    const line = colour("--line"), text = colour("--dim");
    const axis = { stroke: text, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "12px system-ui" };
    return {
      width: Math.max(240, root.clientWidth), height: 280, cursor: { drag: { x: true, y: false }, points: { size: 7 } },
      axes: [{ ...axis }, { ...axis, size: 58, values: (_, ticks) => ticks.map(short) }],
      ...extra,
    };
  };

  const draw = (body) => {
    const columns = merge(body);
    const wanted = JSON.stringify([body.options, body.validation.x.length > 0, innerWidth, matchMedia("(prefers-color-scheme: dark)").matches, matchMedia("print").matches]);
    const { range, outside } = limits(columns, body.options);
    const notes = [];
    if (outside) notes.push(`${outside} losses lie above the picture: "Show outliers" shows them.`);
    if (body.marks.length) notes.push(`${body.marks.length} steps have no finite loss; the line is open there.`);
    if (body.options.log && body.loss.some((value) => value != null && value <= 0)) notes.push("Losses of 0 have no place on a log scale.");
    if (body.options.smoothing > 0) notes.push(`Smoothed over what came before with weight ${body.options.smoothing}; the faint line is what was measured.`);
    note.textContent = notes.join(" ");
    if (wanted === shape && plots.length) {
      plots[0].ranges = range;
      plots[0].setData(plots[0].there.map((index) => columns[index]));
      plots[1]?.setData(thin([body.x, body.learning_rate]));
      plots[2]?.setData(thin([body.x, body.tokens_per_second]));
      return;
    }
    shape = wanted;
    for (const plot of plots) plot.destroy();
    plots = [];
    root.querySelector(".plots")?.remove();
    if (body.x.length < 2) return;
    root.querySelector(".still").hidden = true;
    const box = document.createElement("div");
    box.className = "plots";
    root.append(box);
    const smooth = body.options.smoothing > 0;
    const gaps = { spanGaps: false };
    const every = [
      { label: axes[body.options.x], value: (_, value) => short(value) },
      { label: "training loss", stroke: colour("--c0"), width: smooth ? 1 : 2, alpha: smooth ? 0.4 : 1, points: { show: columns[0].length < 40 }, value: (_, value) => short(value), spanGaps: body.validation.x.length > 0 && !body.marks.length },
      { label: "smoothed", stroke: colour("--c0"), width: 2.5, show: smooth, points: { show: false }, value: (_, value) => short(value), spanGaps: true },
      { label: "validation loss", stroke: colour("--c1"), width: 1.5, show: body.validation.x.length > 0, points: { show: true, size: 7, fill: colour("--c1") }, value: (_, value) => short(value), spanGaps: true },
    ];
    // What is not there has no place in the legend either.
    const there = every.map((one, index) => index).filter((index) => every[index].show !== false);
    const series = there.map((index) => every[index]);
    const main = document.createElement("div");
    main.setAttribute("role", "img");
    main.tabIndex = 0;
    main.setAttribute("aria-label", "Training and validation loss. Arrow keys move along; the numbers are in the table below.");
    box.append(main);
    const plot = new uPlot(frame("loss", {
      series,
      scales: { x: { time: false }, y: { distr: body.options.log ? 3 : 1, range: (self) => self.ranges ?? range } },
    }), there.map((index) => columns[index]), main);
    plot.ranges = range;
    plot.there = there;
    plots.push(plot);
    main.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      const last = plot.data[0].length - 1;
      const now = plot.cursor.idx ?? (step > 0 ? -1 : last + 1);
      const index = Math.min(last, Math.max(0, now + step));
      plot.setCursor({ left: plot.valToPos(plot.data[0][index], "x"), top: 10 });
      note.textContent = series.slice(1).map((one, k) => [one, plot.data[k + 1][index]])
        .filter(([one, value]) => one.show !== false && value != null)
        .reduce((said, [one, value]) => `${said}, ${one.label} ${short(value)}`, `${axes[body.options.x]} ${short(plot.data[0][index])}`);
    });
    const side = document.createElement("div");
    side.className = "side";
    box.append(side);
    const later = [];
    const small = (title, values, name) => {
      if (!values.some((value) => value != null)) return;
      const cell = document.createElement("div");
      const heading = document.createElement("h3");
      heading.textContent = title;
      const holder = document.createElement("div");
      holder.setAttribute("role", "img");
      holder.setAttribute("aria-label", `${title}; the numbers are in the table below`);
      cell.append(heading, holder);
      side.append(cell);
      const options = frame(title, {
        series: [{ label: axes[body.options.x], value: (_, value) => short(value) }, { label: title.toLowerCase(), stroke: colour(name), width: 1.5, points: { show: false }, value: (_, value) => short(value), ...gaps }],
        scales: { x: { time: false } },
      });
      options.height = 150;
      // Its width is known once all of them have their places.
      later.push(() => {
        options.width = Math.max(240, cell.clientWidth);
        plots.push(new uPlot(options, thin([body.x, values]), holder));
      });
    };
    small("Learning rate", body.learning_rate, "--c2");
    small("Tokens per second", body.tokens_per_second, "--c3");
    for (const place of later) place();
  };

  let latest = null;
  const load = async () => {
    clearTimeout(timer);
    let running = root.dataset.running === "1";
    try {
      if (!document.hidden) {
        const answer = await fetch(address().data, { headers: { Accept: "application/json" } });
        if (answer.ok) {
          const body = await answer.json();
          running = body.running;
          latest = body;
          draw(body);
        }
      }
    } catch { /* the page says that the console does not answer */ }
    if (running) timer = setTimeout(load, 2000);
  };

  form.addEventListener("input", () => {
    document.getElementById("smoothing").textContent = form.elements.smoothing.value;
    history.replaceState(null, "", address().page);
    load();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  // At once and without a request: a picture of the old width would make the page wider than the window, and paper, which is
  // white whatever the screen is, does not wait for an answer.
  const redraw = () => { if (latest) draw(latest); };
  addEventListener("resize", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  matchMedia("print").addEventListener("change", redraw);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) load(); });
  load();
})();
