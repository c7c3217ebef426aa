// Draws the charts of the page from the JSON in #data. Texts of users go through `harmless` and nowhere around it.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const hidden = new Set(); // numbers of variants
  const state = {}; // chart: {key, seeds}
  const curves = new Set(["lr", "curves", "losses"]);
  const narrow = () => root.clientWidth < 600;

  // Plotly reads a few tags and entities in its texts
  function harmless(text, longest) {
    const letters = Array.from(text.replace(/\s+/g, " "));
    const cut = letters.length > longest ? [...letters.slice(0, longest - 1), "…"] : letters;
    return cut.join("").replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  }

  function merged(base, more) {
    const out = { ...base };
    for (const [name, value] of Object.entries(more || {})) {
      const nested = value && typeof value === "object" && !Array.isArray(value);
      out[name] = nested ? merged(out[name], value) : value;
    }
    return out;
  }

  const css = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const colour = (variant) => css(`--v${variant % PALETTE}`);
  const PALETTE = Array.from({ length: 99 }, (_, k) => css(`--v${k}`)).findIndex((value) => !value);

  function shown(name, trace) {
    const { key, variant, part, alone } = trace.meta;
    if (key !== undefined && key !== state[name].key) return false;
    if (curves.has(name) && hidden.has(variant)) return false;
    return part !== "seed" || alone || state[name].seeds;
  }

  function dressed(trace) {
    const { variant, part, seed, counts, alone } = trace.meta;
    const tone = variant === undefined ? css("--note") : colour(variant);
    const more = { showlegend: false };
    if (variant !== undefined) {
      more.name = harmless(data.variants[variant], narrow() ? 16 : 40) + (seed === undefined ? "" : `, seed ${seed}`);
    }
    if (part === "band") more.fillcolor = `${tone}2b`;
    else if (part === "pair") more.line = { color: `${css("--soft")}70` };
    else if (trace.type === "bar") {
      more.marker = { color: data.variants.map((_, k) => colour(k)), opacity: part === "shared" ? 0.35 : 1 };
    } else {
      more.line = { color: tone };
      more.marker = { color: tone };
      if (trace.error_x) more.error_x = { color: tone };
      if (part === "mean") more.marker = { color: tone, line: { color: css("--ink"), width: 1 } };
    }
    if (part === "seed" && !counts && !alone) more.opacity = 0.45;
    return merged(trace, more);
  }

  function theme() {
    const axis = { gridcolor: css("--line"), linecolor: css("--soft"), zerolinecolor: css("--soft"), zerolinewidth: 1 };
    return {
      paper_bgcolor: css("--card"),
      plot_bgcolor: css("--card"),
      font: { family: "system-ui, sans-serif", size: narrow() ? 11 : 13, color: css("--ink") },
      margin: { l: narrow() ? 52 : 70, r: 16, t: 34, b: 56 },
      xaxis: { ...axis, zeroline: false, title: { standoff: 8 }, spikecolor: css("--soft"), spikethickness: 1, spikedash: "dot" },
      yaxis: { ...axis, zeroline: false },
      hoverlabel: { bgcolor: css("--card"), bordercolor: css("--soft"), font: { color: css("--ink") }, namelength: -1 },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--soft"), activecolor: css("--ink") },
      // a finger on a chart scrolls the page
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    };
  }

  function draw(name) {
    const chart = data.charts[name];
    const { key, seeds } = state[name];
    const layout = merged(merged(theme(), chart.layout), chart.layouts && chart.layouts[key]);
    layout.uirevision = key || "all"; // what was zoomed to stays when lines come and go
    if (layout.yaxis.ticktext) {
      layout.yaxis.ticktext = layout.yaxis.ticktext.map((text) => harmless(text, narrow() ? 14 : 32));
    }
    if (seeds) layout.hovermode = "closest";
    if (root.classList.contains("printing")) layout.width = 680;
    const div = document.querySelector(`[data-plot="${name}"]`);
    const traces = chart.traces.filter((trace) => shown(name, trace)).map(dressed);
    return Plotly.react(div, traces, layout, {
      displaylogo: false,
      responsive: true,
      // by name: Plotly's own choice has a button that sends the chart away
      modeBarButtons: [["toImage"], ["zoom2d", "pan2d"], ["zoomIn2d", "zoomOut2d", "resetScale2d"]],
      toImageButtonOptions: { filename: name, scale: 2 },
    });
  }

  const names = Object.keys(data.charts);
  const drawAll = () => names.forEach(draw);

  function showVariants() {
    for (const button of document.querySelectorAll("[data-variant]")) {
      button.setAttribute("aria-pressed", String(!hidden.has(Number(button.dataset.variant))));
    }
    names.filter((name) => curves.has(name)).forEach(draw);
  }

  function only(variant) {
    const others = data.variants.map((_, k) => k).filter((k) => k !== variant);
    const already = !hidden.has(variant) && others.every((k) => hidden.has(k));
    hidden.clear();
    if (!already) others.forEach((k) => hidden.add(k));
    showVariants();
  }

  for (const name of names) {
    const choice = document.querySelector(`[data-choice="${name}"]`);
    const seeds = document.querySelector(`[data-seeds="${name}"]`);
    state[name] = { key: choice ? choice.value : Object.keys(data.charts[name].keys || {})[0], seeds: Boolean(seeds && seeds.checked) };
    if (choice) choice.addEventListener("change", () => { state[name].key = choice.value; draw(name); });
    if (seeds) seeds.addEventListener("change", () => { state[name].seeds = seeds.checked; draw(name); });
  }
  for (const button of document.querySelectorAll("[data-variant]")) {
    const variant = Number(button.dataset.variant);
    button.addEventListener("click", (event) => {
      if (event.shiftKey) return only(variant);
      if (!hidden.delete(variant)) hidden.add(variant);
      showVariants();
    });
    button.addEventListener("dblclick", () => only(variant)); // its two clicks have undone each other
  }

  let wasNarrow = narrow();
  addEventListener("resize", () => {
    if (narrow() !== wasNarrow) { wasNarrow = narrow(); drawAll(); }
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  let closed = [];
  addEventListener("beforeprint", () => {
    root.classList.add("printing");
    closed = [...document.querySelectorAll("details:not([open])")];
    closed.forEach((details) => { details.open = true; });
    drawAll();
  });
  addEventListener("afterprint", () => {
    root.classList.remove("printing");
    closed.forEach((details) => { details.open = false; });
    drawAll();
  });
  drawAll();
})();
