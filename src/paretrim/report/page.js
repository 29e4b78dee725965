"use strict";
(() => {
  const root = document.documentElement;
  addEventListener("error", (event) => { root.dataset.error = event.message; });
  const data = JSON.parse(document.getElementById("data").textContent);
  const points = data.points;
  const charts = [...document.querySelectorAll("figure[data-x]")];
  const heads = document.querySelector("#points thead tr").cells;
  const rows = [...document.querySelectorAll("#points tbody tr")];
  let view = 0;

  const SVG = "http://www.w3.org/2000/svg";
  const shape = (parent, name, attributes, text) => {
    const node = document.createElementNS(SVG, name);
    for (const key in attributes) node.setAttribute(key, attributes[key]);
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  };
  const html = (parent, name, text, className) => {
    const node = document.createElement(name);
    if (text !== undefined) node.textContent = text;
    if (className) node.className = className;
    parent.append(node);
    return node;
  };

  // Scales and ticks ------------------------------------------------------------------------------------------------

  const scale = (low, high, from, to, log) => {
    const f = log ? Math.log : (v) => v;
    return (v) => from + ((f(v) - f(low)) / (f(high) - f(low))) * (to - from);
  };
  const range = (values, log) => {
    let low = Math.min(...values), high = Math.max(...values);
    if (log) { const pad = Math.max(1.08, (high / low) ** 0.06); return [low / pad, high * pad]; }
    const pad = (high - low) * 0.07 || Math.abs(high) * 0.1 || 1;
    return [low >= 0 ? Math.max(0, low - pad) : low - pad, high + pad];
  };
  const linearTicks = (low, high, count) => {
    const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].find((m) => m * power >= 0.7 * rough) * power;
    const ticks = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) ticks.push(k * step);
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    return { ticks, text: (v) => v.toFixed(digits) };
  };
  const logTicks = (low, high) => {
    const make = (heads) => {
      const ticks = [];
      for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e++) {
        for (const head of heads) { const v = head * 10 ** e; if (v >= low && v <= high) ticks.push(v); }
      }
      return ticks;
    };
    const wide = make([1, 2, 5]);
    return wide.length >= 3 ? wide : make([1, 1.5, 2, 3, 4, 5, 7]);
  };
  const number = (v, digits = 3) => String(+v.toPrecision(digits));
  const bytes = (v, digits = 3) => {
    const [of, unit] = [[1e9, " GB"], [1e6, " MB"], [1e3, " kB"]].find(([least]) => v >= least) ?? [1, " B"];
    return number(v / of, digits) + unit;
  };
  // On a short axis of large files, three digits would give neighbours the same text.
  const bytesApart = (ticks) => {
    const differ = (digits) => new Set(ticks.map((v) => bytes(v, digits))).size === ticks.length;
    const digits = [3, 4, 5, 6, 7, 8, 9].find(differ) ?? 12;
    return (v) => bytes(v, digits);
  };

  // Which points stand where ----------------------------------------------------------------------------------------

  const unit = data.metric.share ? 100 : 1, up = data.metric.up ? 1 : -1, most = data.metric.share ? 100.5 : Infinity;
  const placed = (figure) => {
    const latency = figure.dataset.x === "latency";
    const list = points.map((p, i) => ({
      i, x: latency ? p.views[view].ms : p.bytes, y: p.value, best: p.views[view].best,
      reference: i === data.baseline, guesses: p.guesses,
    }));
    return list.filter((p) => p.x !== null);
  };
  const frontLine = (list) => {
    const sorted = list.filter((p) => !p.guesses).sort((a, b) => a.x[0] - b.x[0] || up * (b.y[0] - a.y[0]));
    const line = [];
    for (const p of sorted) if (!line.length || up * (p.y[0] - line[line.length - 1].y[0]) > 0) line.push(p);
    return line;
  };
  // A network that failed would press all others against the top; it goes to the lower edge, marked as being below it.
  const floorOf = (list) => {
    if (!data.metric.share || up < 0) return -Infinity;
    const ys = list.map((p) => p.y[0]).sort((a, b) => a - b);
    const top = ys[ys.length - 1], spread = top - ys[Math.floor(ys.length / 4)];
    return ys.length >= 8 && top - ys[0] > 5 * spread ? top - 4 * spread : -1;
  };

  // Drawing -----------------------------------------------------------------------------------------------------------

  const draw = (figure) => {
    const plot = figure.querySelector(".plot");
    const list = placed(figure), line = frontLine(list), latency = figure.dataset.x === "latency";
    const width = Math.max(260, plot.clientWidth), height = Math.round(Math.min(460, Math.max(320, width * 0.68)));
    plot.replaceChildren();
    figure.state = null;
    if (!list.length) { html(plot, "p", "No latency was measured.", "note"); return; }
    const svg = shape(plot, "svg", { viewBox: `0 0 ${width} ${height}`, role: "img", tabindex: 0 });
    svg.setAttribute("aria-label", `${figure.querySelector("figcaption").textContent}: ${list.length} points, ${line.length} on the frontier. Arrow keys move from point to point.`);
    const box = { left: 44, right: width - 10, top: 12, bottom: height - 44 };
    const many = list.length > 60;
    const floor = floorOf(list);
    const xs = list.flatMap((p) => (many && !p.best ? [p.x[0]] : p.x));
    const log = Math.min(...xs) > 0 && Math.max(...xs) / Math.min(...xs) >= 3;
    const [x0, x1] = range(xs, log);
    const [y0, y1] = range(list.flatMap((p) => (many && !p.best ? [p.y[0]] : p.y)).filter((v) => v >= floor).map((v) => unit * v), false);
    const sx = scale(x0, x1, box.left, box.right, log);
    const unclamped = scale(y0, Math.min(y1, most), box.bottom, box.top, false);
    const sy = (v) => Math.min(box.bottom, Math.max(box.top, unclamped(unit * v)));
    axes(svg, box, { log, x0, x1, y0, y1: Math.min(y1, most), sx, sy: unclamped, latency });
    for (const p of list) {
      p.px = sx(p.x[0]); p.py = sy(p.y[0]); p.under = unit * p.y[0] < y0;
    }
    const behind = list.filter((p) => !p.best), front = list.filter((p) => p.best).sort((a, b) => a.reference - b.reference);
    const errors = (p) => {
      if (p.under) return;
      const style = { class: p.best ? "error best" : "error" };
      shape(svg, "line", { x1: p.px, x2: p.px, y1: sy(p.y[1]), y2: sy(p.y[2]), ...style });
      shape(svg, "line", { x1: Math.max(box.left, sx(p.x[1])), x2: Math.min(box.right, sx(p.x[2])), y1: p.py, y2: p.py, ...style });
    };
    if (!many) behind.forEach(errors);
    behind.filter((p) => !p.reference).forEach((p) => mark(svg, p, many));
    const steps = line.filter((p) => !p.under).map((p, k) => (k ? `H${p.px}V${p.py}` : `M${p.px},${p.py}`));
    // To the right edge: what lies below the line there is beaten by its last point.
    if (steps.length) shape(svg, "path", { d: `${steps.join("")}H${box.right}`, class: "front" });
    front.forEach(errors);
    front.filter((p) => !p.reference).forEach((p) => mark(svg, p, many));
    list.filter((p) => p.reference).forEach((p) => mark(svg, p, many)); // last, for others often lie on it
    const labels = names(svg, list, line, box, width);
    const ring = shape(svg, "circle", { r: 8.5, class: "ring", visibility: "hidden" });
    figure.state = { svg, list, box, width, height, ring, labels };
    const below = list.filter((p) => p.under).length;
    if (below) html(plot, "p", `Below ${y0.toFixed(1)} %: ${below} point${below > 1 ? "s" : ""}, at the lower edge as ${below > 1 ? "triangles" : "a triangle"}.`, "note");
  };

  const axes = (svg, box, a) => {
    const { ticks, text } = linearTicks(a.y0, a.y1, 5);
    for (const t of ticks) {
      const y = a.sy(t);
      shape(svg, "line", { x1: box.left, x2: box.right, y1: y, y2: y, class: "grid" });
      shape(svg, "text", { x: box.left - 8, y: y + 4, "text-anchor": "end" }, text(t));
    }
    shape(svg, "line", { x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom, class: "axis" });
    const across = a.log ? { ticks: logTicks(a.x0, a.x1), text: (v) => number(v) } : linearTicks(a.x0, a.x1, 5);
    const said = a.latency ? across.text : bytesApart(across.ticks);
    let edge = -Infinity;
    for (const t of across.ticks) {
      const x = a.sx(t);
      shape(svg, "line", { x1: x, x2: x, y1: box.bottom, y2: box.bottom + 4, class: "axis" });
      const label = shape(svg, "text", { x, y: box.bottom + 18, "text-anchor": "middle" }, said(t));
      const { x: left, width } = label.getBBox();
      if (left < edge + 8 || left + width > box.right + 10) label.remove(); else edge = left + width;
    }
    const title = (a.latency ? "median latency, ms" : "file size") + (a.log ? " (log scale)" : "");
    shape(svg, "text", { x: box.right, y: box.bottom + 36, "text-anchor": "end" }, title);
  };

  const mark = (svg, p, many) => {
    const kind = "dot" + (p.best ? " best" : "") + (p.reference ? " reference" : "");
    const r = p.best || p.reference ? 5 : many ? 3 : 4.5;
    if (p.under) shape(svg, "path", { d: `M${p.px - 5},${p.py - 8}h10l-5,8z`, class: kind });
    else if (p.reference) shape(svg, "path", { d: `M${p.px},${p.py - 7}l7,7l-7,7l-7,-7z`, class: kind });
    else shape(svg, "circle", { cx: p.px, cy: p.py, r, class: kind });
  };

  const hits = (a, b) => a.x <= b.x + b.width && b.x <= a.x + a.width && a.y <= b.y + b.height && b.y <= a.y + a.height;

  // Names go to the reference, then to frontier points from the ends inwards, wherever one of sixteen places is free.
  const names = (svg, list, line, box, width) => {
    const steps = line.slice(1).flatMap((p, k) => [
      { x: line[k].px, y: line[k].py - 1, width: p.px - line[k].px, height: 2 },
      { x: p.px - 1, y: p.py, width: 2, height: line[k].py - p.py },
    ]);
    const last = line[line.length - 1];
    if (last) steps.push({ x: last.px, y: last.py - 1, width: box.right - last.px, height: 2 });
    const inner = [];
    const halve = (a, b) => { const m = (a + b) >> 1; if (a <= b) { inner.push(line[m]); halve(a, m - 1); halve(m + 1, b); } };
    halve(1, line.length - 2);
    const ends = last ? [line[0], last] : [];
    const wanted = [...list.filter((p) => p.reference), ...ends, ...inner, ...list.filter((p) => p.best)];
    const few = list.length <= 12 ? list : [];
    const limit = list.length <= 12 ? list.length : width < 480 ? 5 : 9;
    const around = (p) => ({ x: p.px - 6, y: p.py - 6, width: 12, height: 12 });
    const dots = list.filter((p) => p.best || p.reference || few.length).map(around);
    const thin = [...svg.querySelectorAll(".error, .front")].flatMap((node) => node.tagName === "path" ? steps : [node.getBBox()]);
    const clutter = [...thin, ...list.filter((p) => !p.under).map(around)];
    const taken = [];
    for (const p of new Set([...wanted, ...few])) {
      if (taken.length >= limit || p.under) continue;
      const full = points[p.i].label, most = width < 480 ? 20 : 30;
      const text = shape(svg, "text", { class: "name" }, full.length > most ? full.slice(0, most - 1) + "…" : full);
      const { width: w } = text.getBBox(), h = 14;
      const spots = [];
      for (const far of [0, 10]) {
        spots.push([p.px + 9 + far, p.py + 4], [p.px + 7 + far, p.py - 9 - far], [p.px - w / 2, p.py - 11 - far], [p.px - w - 7 - far, p.py - 9 - far],
          [p.px - w - 9 - far, p.py + 4], [p.px + 7 + far, p.py + 18 + far], [p.px - w / 2, p.py + 20 + far], [p.px - w - 7 - far, p.py + 18 + far]);
      }
      const free = spots.map(([x, y]) => ({ x, y: y - 11, width: w, height: h })).filter((b) =>
        b.x >= box.left + 2 && b.x + w <= box.right && b.y >= box.top - 8 && b.y + h <= box.bottom - 2 &&
        !taken.some((other) => hits(b, other)) && !dots.some((dot) => hits(b, dot)));
      // A name belongs to the point it stands next to: where another is as near, a line leads to its own.
      const gap = (b, q) => Math.hypot(Math.max(b.x - q.px, 0, q.px - b.x - w), Math.max(b.y - q.py, 0, q.py - b.y - h));
      const own = (b) => !list.some((q) => q !== p && !q.under && gap(b, q) < gap(b, p) + 3);
      const clear = free.filter((b) => !clutter.some((other) => hits(b, other))), must = p.reference || few.length ? free : [];
      const spot = clear.find(own) ?? must.find(own) ?? clear[0] ?? must[0];
      if (!spot) { text.remove(); continue; }
      text.setAttribute("x", spot.x); text.setAttribute("y", spot.y + 11);
      taken.push(spot);
      const ends = { x2: Math.max(spot.x, Math.min(p.px, spot.x + w)), y2: Math.max(spot.y + 2, Math.min(p.py, spot.y + h - 2)) };
      if (!own(spot) || Math.hypot(ends.x2 - p.px, ends.y2 - p.py) > 14) shape(svg, "line", { x1: p.px, y1: p.py, ...ends, class: "leader" });
    }
    return taken;
  };

  // Reading one point ---------------------------------------------------------------------------------------------------

  const show = (i, owner) => {
    for (const figure of charts) {
      figure.querySelector(".tip")?.remove();
      const state = figure.state, p = state?.list.find((q) => q.i === i);
      if (!state) continue;
      state.ring.setAttribute("visibility", p ? "visible" : "hidden");
      if (!p) continue;
      state.ring.setAttribute("cx", p.px); state.ring.setAttribute("cy", p.py);
      if (figure !== owner) continue;
      const tip = html(figure, "div", undefined, "tip");
      tip.setAttribute("role", "status");
      html(tip, "b", points[i].label);
      for (const cell of rows[i].cells) {
        if (cell.hidden || !heads[cell.cellIndex].dataset.tip) continue;
        const range = cell.querySelector("i"), value = cell.firstChild.textContent.trim();
        html(tip, "div", `${heads[cell.cellIndex].textContent}: ${value}${range ? ` (${range.textContent})` : ""}`);
      }
      const area = state.svg.getBoundingClientRect(), outer = figure.getBoundingClientRect(), k = area.width / state.width;
      const x = p.px * k + area.left - outer.left, y = p.py * k + area.top - outer.top;
      const left = x + 14 + tip.offsetWidth <= outer.width ? x + 14 : Math.max(0, x - 14 - tip.offsetWidth);
      tip.style.left = `${Math.max(0, Math.min(left, outer.width - tip.offsetWidth))}px`;
      tip.style.top = `${y - tip.offsetHeight - 14 >= 0 ? y - tip.offsetHeight - 14 : y + 16}px`;
    }
  };
  const open = (i) => {
    const details = document.getElementById(`p${i}`);
    for (let node = details; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
    details.scrollIntoView();
  };
  for (const figure of charts) {
    let active = -1;
    const nearest = (event) => {
      const state = figure.state;
      if (!state) return -1;
      const area = state.svg.getBoundingClientRect(), k = area.width / state.width;
      const reach = (p) => Math.hypot(event.clientX - area.left - p.px * k, event.clientY - area.top - p.py * k) - (p.best ? 3 : 0);
      const found = state.list.reduce((a, b) => (a && reach(a) <= reach(b) ? a : b), null);
      return found && reach(found) < 28 ? found.i : -1;
    };
    figure.addEventListener("pointermove", (event) => show((active = nearest(event)), figure));
    figure.addEventListener("pointerdown", (event) => show((active = nearest(event)), figure));
    figure.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") show((active = -1), figure); });
    figure.addEventListener("focusout", () => show((active = -1), figure));
    figure.addEventListener("dblclick", () => { if (active >= 0) open(active); });
    figure.addEventListener("keydown", (event) => {
      if (!figure.state) return;
      const sorted = [...figure.state.list].sort((a, b) => a.px - b.px || a.py - b.py).map((p) => p.i);
      const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
      if (event.key === "Enter" && active >= 0) open(active);
      else if (event.key === "Escape") show((active = -1), figure);
      else if (step) {
        const at = sorted.indexOf(active);
        active = sorted[at < 0 ? (step > 0 ? 0 : sorted.length - 1) : Math.max(0, Math.min(sorted.length - 1, at + step))];
        show(active, figure);
        event.preventDefault();
      }
    });
  }

  // Tables ------------------------------------------------------------------------------------------------------------

  const choose = (index) => {
    view = index;
    for (const node of document.querySelectorAll("[data-s]")) node.hidden = +node.dataset.s !== view;
    charts.forEach(draw);
  };
  for (const input of document.querySelectorAll("input[name=view]")) input.addEventListener("change", () => choose(+input.value));

  for (const button of document.querySelectorAll("th button")) {
    button.addEventListener("click", () => {
      const head = button.parentElement, table = head.closest("table"), column = head.cellIndex;
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const text = (row) => row.cells[column].textContent;
      const value = (row) => {
        const found = parseFloat(row.cells[column].dataset.v ?? text(row).replace("\u2212", "-").replaceAll(",", ""));
        return Number.isNaN(found) ? Infinity : found;
      };
      const words = head.className === "left";
      const compare = (a, b) => {
        if (words) return text(a).localeCompare(text(b), undefined, { numeric: true });
        return value(a) === value(b) ? 0 : value(a) - value(b);
      };
      for (const body of table.tBodies) body.append(...[...body.rows].sort((a, b) => (up ? 1 : -1) * compare(a, b)));
    });
  }

  const bar = (cell, share, part) => {
    const svg = shape(cell, "svg", { class: "bar", viewBox: "0 0 96 9", "aria-hidden": "true" });
    shape(svg, "rect", { width: 96 * share, height: 9, class: "all" });
    shape(svg, "rect", { width: 96 * part, height: 9, class: "part" });
  };
  const fillLayers = (details) => {
    const place = details.querySelector(".layers"), rows = data.layers.rows[place.dataset.point];
    if (!rows || place.firstChild) return;
    const table = html(place, "table"), head = html(html(table, "thead"), "tr"), body = html(table, "tbody");
    for (const text of ["layer", "shape", "type", "zeros", "bytes", "entropy bytes (dark) of bytes"]) html(head, "th", text);
    const largest = Math.max(...rows.map((row) => row[3]), 1);
    for (const [kind, dtype, zeros, size, entropy] of rows) {
      const [name, dimensions, weights] = data.layers.kinds[kind], tr = html(body, "tr");
      html(tr, "td", name); html(tr, "td", dimensions); html(tr, "td", data.layers.dtypes[dtype]);
      bar(html(tr, "td", `${((100 * zeros) / (weights || 1)).toFixed(1)} %`), 1, zeros / (weights || 1));
      html(tr, "td", bytes(size));
      bar(html(tr, "td", bytes(entropy)), size / largest, Math.min(entropy, largest) / largest);
    }
  };
  for (const details of document.querySelectorAll("details[id]")) details.addEventListener("toggle", () => { if (details.open) fillLayers(details); });
  for (const link of document.querySelectorAll("a[data-open]")) link.addEventListener("click", () => open(+link.dataset.open));

  choose(0);
  let last = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== last) { last = innerWidth; charts.forEach(draw); } });
  if (/^#p\d+$/.test(location.hash) && document.querySelector(location.hash)) open(+location.hash.slice(2));
  root.dataset.ready = "yes";
})();
