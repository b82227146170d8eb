"use strict";
// Draws the page's figures from the JSON in #data (written by report/page.py). No framework, no network.

const data = JSON.parse(document.getElementById("data").textContent);
const styles = Object.values(data.styles);             // [class of the style sheet, word, explanation] of each kind
const clip = data.rule.clip;                           // seconds
const $ = id => document.getElementById(id);
const state = {
  shown: [], at: 0,                                    // indices of the videos in the list; place of the selected one
  lam: data.rule.lam, gamma: data.rule.gammas[0], moved: false,
  curves: new Set("L"), zoom: 1, row: 0, time: 0,      // time: seconds of the cursor
  files: null, url: null,                              // videos of the folder by lower-case stem
};

// ------------------------------------------------------------------------------------------------ elements

function make(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);                            // text stays text
  return node;
}

function html(name, attributes = {}, ...children) {
  return make(document.createElement(name), attributes, children);
}

function svg(name, attributes = {}, ...children) {
  return make(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function text(words, x, y, attributes = {}) {
  return svg("text", {x, y, ...attributes}, words);
}

function percent(fraction) {
  return fraction === null ? "–" : (100 * fraction).toFixed(1);
}

function seconds(t) {
  return t.toFixed(t < 100 ? 2 : 1) + " s";
}

function steps(low, high, wanted) {                    // round numbers in [low, high], about `wanted` of them
  const rough = (high - low) / wanted || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find(factor => factor * power >= rough * 0.999);
  const values = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) values.push(+(k * step).toPrecision(12));
  return values;
}

// ------------------------------------------------------------------------------------------------ the equations

function fuse(q, p, lam) {                             // Eq. 9: L[t] = lambda * Q[t] + (1 - lambda) * P[t, c]
  return q.map((value, t) => lam * value + (1 - lam) * p[t]);
}

function threshold(l, gamma) {                         // Sec. 3.5: mean(L) + gamma * (max(L) - min(L))
  const [low, high] = range(l), mean = l.reduce((sum, value) => sum + value, 0) / l.length;
  return Math.min(Math.max(mean, low), high) + gamma * (high - low);
}

function range(values) {
  return values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
}

function runs(l, level) {                              // maximal runs of clips with L > level: [start, end) each
  const found = [];
  for (let t = 0; t < l.length; t++) {
    if (!(l[t] > level)) continue;
    if (t > 0 && l[t - 1] > level) found.at(-1)[1] = t + 1;
    else found.push([t, t + 1]);
  }
  return found;
}

function proposals(video, l, level) {                  // [start s, end s, mean of L] each, as in localize.py
  return runs(l, level).map(([start, end]) => [start * clip, Math.min(end * clip, video.s),
    l.slice(start, end).reduce((sum, value) => sum + value, 0) / (end - start)]).filter(([start, end]) => end > start);
}

function unpack(packed) {                              // base64 of uint16 -> scores in [0, 1]
  const bytes = Uint8Array.from(atob(packed), c => c.charCodeAt(0)), view = new DataView(bytes.buffer);
  return Array.from({length: bytes.length / 2}, (_, t) => view.getUint16(2 * t, true) / 65535);
}

function curves(video, row) {                          // {Q, P, L, levels} of a row; null where there are no scores
  if (!video.q || !row.p) return null;
  const q = unpack(video.q), p = unpack(row.p), l = fuse(q, p, state.lam);
  const gammas = state.moved ? [state.gamma] : data.rule.gammas;
  return {Q: q, P: p, L: l, levels: gammas.map(gamma => threshold(l, gamma))};
}

// ------------------------------------------------------------------------------------------------ charts

function figure(parent, title, note = "") {            // a titled box with a button that saves its SVG
  const save = html("button", {type: "button"}, "Save SVG");
  const box = html("figure", {}, html("figcaption", {}, html("strong", {}, title), " ", html("span", {}, note), save));
  save.addEventListener("click", () => saveSvg(box.querySelector("svg"), title));
  parent.append(box);
  return box;
}

function drawChart(chart) {
  const box = figure($("charts"), chart.title);
  const legend = html("p", {class: "legend"}), readout = html("p", {class: "hint", role: "status"}, "Point at the figure for numbers.");
  chart.series.forEach((part, k) => legend.append(html("span", {}, svg("svg", {width: 26, height: 10, "aria-hidden": "true"},
    svg("line", {x1: 1, x2: 25, y1: 5, y2: 5, class: `line line${k % 6}`})), " " + part.name)));
  box.append(legend, html("div"), readout);
  redraw(box.children[2], width => chartSvg(chart, width, readout));
}

function chartSvg(chart, width, readout) {
  const height = 210, left = 46, right = 8, top = 8, bottom = 34;
  const xs = chart.series.flatMap(part => part.x), ys = chart.series.flatMap(part => part.y).filter(y => y !== null);
  const last = Math.max(...xs) + 0.5, high = chart.percent ? 1 : Math.max(...ys, 1e-9) * 1.04, low = Math.min(0, ...ys);
  const x = value => left + (value - 0.5) / (last - 0.5) * (width - left - right);
  const y = value => top + (high - value) / (high - low) * (height - top - bottom);
  const cursor = svg("line", {y1: top, y2: height - bottom, class: "cursor", visibility: "hidden"});
  const picture = svg("svg", {width, height, role: "img", "aria-label": `${chart.title}: ${chart.y} over epochs`});
  for (const [from, to] of chart.shade) picture.append(svg("rect", {x: x(from), y: top, width: x(to) - x(from), height: height - top - bottom, class: "shade"}, svg("title", {}, "E step")));
  for (const value of steps(low, high, 4)) picture.append(svg("line", {x1: left, x2: width - right, y1: y(value), y2: y(value), class: "grid-line"}),
    text(chart.percent ? `${Math.round(100 * value)}%` : `${value}`, left - 5, y(value) + 3.5, {"text-anchor": "end"}));
  for (const value of steps(1, last, width / 90)) if (Number.isInteger(value)) picture.append(text(`${value}`, x(value), height - bottom + 14, {"text-anchor": "middle"}));
  picture.append(text("epoch", (left + width) / 2, height - 4, {"text-anchor": "middle"}),
    svg("line", {x1: left, x2: width - right, y1: y(0), y2: y(0), class: "axis"}));
  chart.series.forEach((part, k) => {
    const points = part.x.map((value, i) => [value, part.y[i]]).filter(point => point[1] !== null);
    picture.append(svg("polyline", {points: points.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join(" "), class: `line line${k % 6}`}));
    if (points.length <= 80) for (const [a, b] of points) picture.append(svg("circle", {cx: x(a), cy: y(b), r: 2, class: `dot line${k % 6}`}));
  });
  picture.append(cursor);
  picture.addEventListener("pointermove", event => {
    const at = 0.5 + (event.clientX - picture.getBoundingClientRect().left - left) / (width - left - right) * (last - 0.5);
    const near = xs.reduce((best, value) => Math.abs(value - at) < Math.abs(best - at) ? value : best);
    cursor.setAttribute("visibility", "visible");
    for (const end of ["x1", "x2"]) cursor.setAttribute(end, x(near));
    const values = chart.series.filter(part => part.x.includes(near) && part.y[part.x.indexOf(near)] !== null)
      .map(part => `${part.name} ${chart.percent ? percent(part.y[part.x.indexOf(near)]) + "%" : part.y[part.x.indexOf(near)]}`);
    readout.textContent = `epoch ${near}: ${values.join(", ")}`;
  });
  return picture;
}

function drawBars(parent, title, note, rows, pick) {   // rows: {label, parts: [[value, style]], text, hint}; pick(label): on click
  const box = figure(parent, title, note), area = html("div", {class: "scroll"});
  box.append(area);
  redraw(area, width => {
    const high = Math.max(...rows.map(row => row.parts.reduce((sum, part) => sum + part[0], 0)), 1e-9);
    const left = Math.min(Math.max(...rows.map(row => row.label.length)) * 6.6 + 12, width * 0.42), right = 92, step = 20;
    const picture = svg("svg", {width, height: rows.length * step + 4, role: "img", "aria-label": title + ". " + rows.map(row => `${row.label}: ${row.text}`).join("; ")});
    rows.forEach((row, k) => {
      const line = svg("g", {class: pick ? "bar pick" : "bar"}, svg("title", {}, `${row.label}: ${row.hint ?? row.text}`)), room = Math.floor((left - 8) / 6.4);
      line.append(svg("rect", {x: 0, y: k * step, width, height: step, class: "hit-area"}),
        text(row.label.length > room ? row.label.slice(0, room - 1) + "…" : row.label, left - 6, k * step + 14, {"text-anchor": "end"}));
      let from = left;
      for (const [value, style] of row.parts) {
        const wide = value / high * (width - left - right);
        line.append(svg("rect", {x: from, y: k * step + 4, width: wide, height: step - 7, class: `kind-${style}`}));
        from += wide;
      }
      line.append(text(row.text, from + 6, k * step + 14));
      if (pick) line.addEventListener("click", () => pick(row.label));
      picture.append(line);
    });
    return picture;
  });
}

function redraw(area, draw) {                          // draws now, and again when the width changes
  let width = 0;
  const update = () => {
    if (area.clientWidth === width || !area.clientWidth) return;
    width = area.clientWidth;
    area.replaceChildren(draw(width));
  };
  new ResizeObserver(update).observe(area);
  update();
}

function drawOverview() {
  $("training").hidden = !data.charts.length;
  data.charts.forEach(drawChart);
  if (data.tiou === null) return;
  $("errors").hidden = false;
  const total = data.kinds.reduce((sum, [, n]) => sum + n, 0);
  const kinds = data.kinds.map(([kind, n]) => ({label: data.styles[kind][1], parts: [[n, data.styles[kind][0]]],
    text: `${n} (${percent(n / total)}%)`, hint: `${n} of ${total}: ${data.styles[kind][2]}`}));
  if (total) drawBars($("profile"), "Detections", `at tIoU ${data.tiou}`, kinds);
  drawBars($("profile"), "Ground truth found, by length of the segment", `at tIoU ${data.tiou}; hatched: missed`, data.lengths.map(([label, found, n]) => (
    {label, parts: [[found, "truth"], [n - found, "missed"]], text: n ? `${found} of ${n} (${Math.round(100 * found / n)}%)` : "none"})));
  if (data.sides.length) drawBars($("profile"), "Boundaries of shifted detections", "against the segment of their class that they overlap most", data.sides.map(([label, n]) => (
    {label, parts: [[n, "shifted"]], text: `${n}`})));
  drawBars($("profile"), "AP by class", `(%) at tIoU ${data.tiou}; number of segments; click: only its videos`,
    [...data.ap].sort((a, b) => (b[1] ?? -1) - (a[1] ?? -1)).map(([label, ap, n]) => (
      {label, parts: [[ap ?? 0, "hit"]], text: `${percent(ap)} · ${n}`, hint: `AP ${percent(ap)}%, ${n} segments`})),
    label => { $("class").value = String(data.classes.indexOf(label)); filter(); $("videos").scrollIntoView(); });
}

// ------------------------------------------------------------------------------------------------ the list

const ROW = 46;                                        // pixels
const count = (video, name) => video.r.reduce((sum, row) => sum + row[name].length, 0);
const missed = video => video.r.reduce((sum, row) => sum + row.t.filter(segment => !segment[2]).length, 0);
const ORDERS = {
  "name": (a, b) => a.n.localeCompare(b.n, undefined, {numeric: true}),
  "AP, worst first": (a, b) => (a.a ?? 2) - (b.a ?? 2),
  "AP, best first": (a, b) => (b.a ?? -1) - (a.a ?? -1),
  "missed segments": (a, b) => missed(b) - missed(a),
  "detections": (a, b) => count(b, "d") - count(a, "d"),
};

function filter() {
  const selected = current(), words = $("search").value.toLowerCase(), label = $("class").value;
  state.shown = data.videos.map((_, k) => k).filter(k => data.videos[k].n.toLowerCase().includes(words)
    && (label === "" || data.videos[k].r.some(row => row.c === +label && (row.t.length || row.d.length))));
  const order = ORDERS[$("sort").value], keys = state.shown.map(k => data.videos[k]);
  state.shown = keys.map((video, i) => [video, state.shown[i]]).sort((a, b) => order(a[0], b[0]) || a[1] - b[1]).map(pair => pair[1]);
  $("count").textContent = `${state.shown.length} of ${data.videos.length}`;
  $("rows").style.height = `${state.shown.length * ROW}px`;
  const at = state.shown.findIndex(k => data.videos[k] === selected);
  select(Math.max(at, 0), at < 0);
}

function current() {
  return data.videos[state.shown[state.at]];
}

function select(at, changed = true) {
  state.at = Math.min(Math.max(at, 0), Math.max(state.shown.length - 1, 0));
  const list = $("list"), top = state.at * ROW;
  if (top < list.scrollTop) list.scrollTop = top;
  if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
  drawList();
  if (changed) showVideo();
}

function drawList() {                                  // only the rows that can be seen
  const list = $("list"), first = Math.max(Math.floor(list.scrollTop / ROW) - 4, 0);
  const last = Math.min(first + Math.ceil(list.clientHeight / ROW) + 8, state.shown.length);
  const rows = [];
  for (let at = first; at < last; at++) rows.push(listRow(at));
  $("rows").replaceChildren(...rows);
  if (state.shown.length) list.setAttribute("aria-activedescendant", `video${state.at}`);
  else $("rows").append(html("p", {class: "hint"}, "No video matches."));
}

function listRow(at) {
  const video = data.videos[state.shown[at]], scored = count(video, "t");
  const facts = data.tiou === null ? `${count(video, "d")} detections`
    : `AP ${percent(video.a)}, missed ${missed(video)} of ${scored}`;
  const strip = svg("svg", {viewBox: `0 0 ${video.s} 10`, preserveAspectRatio: "none", "aria-hidden": "true"});
  for (const row of video.r) {
    for (const [start, end, found] of row.t) strip.append(svg("rect", {x: start, y: 0, width: end - start, height: 4, class: found ? "kind-truth" : "strip-missed"}));
    for (const [start, end, , kind] of row.d) strip.append(svg("rect", {x: start, y: 6, width: end - start, height: 4, class: `strip-${styles[kind][0]}`}));
  }
  const node = html("div", {role: "option", id: `video${at}`, "aria-selected": at === state.at, "aria-setsize": state.shown.length, "aria-posinset": at + 1},
    html("span", {class: "name", title: video.n}, video.n), html("span", {class: "facts"}, facts), strip);
  node.style.top = `${at * ROW}px`;
  node.addEventListener("click", () => select(at));
  return node;
}

// ------------------------------------------------------------------------------------------------ one video

function showVideo() {
  const video = current();
  $("detail").hidden = !video;
  if (!video) return;
  state.time = 0;
  state.row = 0;
  state.zoom = 1;
  $("name").textContent = video.n;
  const facts = [seconds(video.s)];
  if (video.q) facts.push(`${unpack(video.q).length} clips of ${clip} s`);
  if (data.tiou !== null) facts.push(`AP ${percent(video.a)}% at tIoU ${data.tiou}`, `missed ${missed(video)} of ${count(video, "t")} segments`);
  facts.push(`${count(video, "d")} detections`);
  if (video.h) facts.push(`${video.h} more classes are not shown`);
  $("facts").textContent = facts.join(" · ");
  history.replaceState(null, "", "#" + encodeURIComponent(video.n));
  loadFile();
  drawTimeline();
  drawSegments();
}

function drawSegments() {
  const head = ["class", "start (s)", "end (s)", "score", "kind"], video = current();
  const body = video.r.flatMap(row => [
    ...row.t.map(([start, end, found]) => [data.classes[row.c], start, end, "", `ground truth, ${found ? "found" : "missed"}`]),
    ...row.d.map(([start, end, score, kind]) => [data.classes[row.c], start, end, score, data.tiou === null ? "detection" : styles[kind][1]])]);
  $("segments").replaceChildren(html("table", {}, html("thead", {}, html("tr", {}, ...head.map(word => html("th", {}, word)))),
    html("tbody", {}, ...body.map(cells => {
      const line = html("tr", {}, html("th", {scope: "row"}, cells[0]), ...cells.slice(1).map(cell => html("td", {}, `${cell}`)));
      line.addEventListener("click", () => seek(cells[1]));
      return line;
    }))));
}

// ------------------------------------------------------------------------------------------------ the timeline

const GUTTER = 84, RIGHT = 10, CURVE = 76, LANE = 17, HEAD = 20, GAP = 12;
let view = null;                                       // what the timeline's events need: {picture, x, span, rows, ...}

function drawTimeline() {
  const video = current(), box = $("timeline");
  if (!video) return;
  const width = Math.floor(Math.max(box.clientWidth, 300) * state.zoom);
  const clips = video.q ? unpack(video.q).length : 0, span = Math.max(video.s, clips * clip);
  const x = t => GUTTER + t / span * (width - GUTTER - RIGHT);
  const picture = svg("svg", {width, class: "timeline", tabindex: 0, role: "img", "aria-describedby": "readout",
    "aria-label": `Timeline of ${video.n}: ${video.r.map(row => data.classes[row.c]).join(", ")}. Arrow keys move the cursor, Enter seeks.`});
  picture.append(patterns());
  const gutter = svg("g", {class: "gutter"}, svg("rect", {x: 0, y: 0, width: GUTTER - 2, height: 2000, class: "paper"})), rows = [];
  const ticks = steps(0, span, (width - GUTTER) / 80);
  let y = 4;
  for (const row of video.r) {
    rows.push(drawRow(video, row, y, {x, span, ticks, picture, gutter}));
    y = rows.at(-1).bottom + GAP;
  }
  for (const t of ticks) picture.append(svg("line", {x1: x(t), x2: x(t), y1: y, y2: y + 5, class: "axis"}), text(`${t}`, x(t), y + 17, {"text-anchor": "middle"}));
  picture.append(svg("line", {x1: x(0), x2: x(span), y1: y, y2: y, class: "axis"}));
  gutter.append(text("seconds", GUTTER - 8, y + 17, {"text-anchor": "end"}));
  const line = name => svg("line", {y1: 0, y2: y + 5, class: name, visibility: "hidden"});
  const cursor = line("cursor"), playhead = line("playhead");
  picture.append(cursor, playhead, gutter);
  picture.setAttribute("height", y + 24);
  view = {picture, x, span, rows, gutter, cursor, playhead, width};
  box.replaceChildren(picture);
  listen(picture);
  moveGutter();
  movePlayhead(state.time);
  drawControls();
}

function drawRow(video, row, top, {x, span, ticks, picture, gutter}) {
  const scores = curves(video, row), node = svg("g", {class: "row", "data-class": data.classes[row.c]});
  const name = data.classes[row.c] + (row.g ? "" : " (below the class gate: no proposals)");
  const plot = top + HEAD, lanes = [];
  node.append(svg("rect", {x: x(0), y: plot, width: x(span) - x(0), height: scores ? CURVE : 2, class: "plot"}));
  if (scores) for (const t of ticks) node.append(svg("line", {x1: x(t), x2: x(t), y1: plot, y2: plot + CURVE, class: "grid-line"}));
  let y = plot + (scores ? CURVE + 4 : 6);
  if (scores) drawCurves(node, gutter, scores, row, plot, x);
  const lane = (words, segments, draw) => {
    gutter.append(text(words, GUTTER - 8, y + 12, {"text-anchor": "end", class: "small"}));
    node.append(svg("g", {class: `lane ${words.replace(" ", "-")}`}, ...segments.map(segment => draw(segment, y))));
    lanes.push({words, y, segments});
    y += LANE;
  };
  if (row.t.length) lane("ground truth", row.t, ([start, end, found], y) => bar(x, start, end, y, found ? "truth" : "missed", `ground truth ${found ? "found" : "missed"}`));
  lane("detected", row.d, ([start, end, score, kind], y) => bar(x, start, end, y, styles[kind][0], data.tiou === null ? "detection" : styles[kind][1], score));
  if (state.moved && scores && row.g) {
    const found = proposals(video, scores.L, scores.levels[0]);
    lane("sliders", found, ([start, end, score], y) => bar(x, start, end, y, "moved", "with the sliders", score));
  }
  picture.append(node);
  gutter.append(svg("rect", {x: 0, y: top - 2, width: name.length * 7.4 + 8, height: HEAD, class: "paper", opacity: 0.85}), text(name, 2, top + 12, {class: "class-name"}));
  return {row, scores, top, bottom: y, lanes, name};
}

function drawCurves(node, gutter, scores, row, top, x) {
  const [low, highest] = range(scores.Q.concat(scores.P)), high = Math.max(highest, low + 1e-6);
  const y = value => top + 3 + (high - Math.min(Math.max(value, low), high)) / (high - low) * (CURVE - 6);
  for (const [start, end] of row.t) node.append(svg("rect", {x: x(start), y: top, width: x(end) - x(start), height: CURVE, class: "truth-band"}));
  for (const name of ["P", "Q", "L"]) {
    if (!state.curves.has(name)) continue;
    const path = scores[name].map((value, t) => `${t ? "L" : "M"}${x(t * clip).toFixed(1)} ${y(value).toFixed(1)}H${x((t + 1) * clip).toFixed(1)}`).join("");
    node.append(svg("path", {d: path, class: `curve curve-${name}`}));
  }
  if (state.curves.has("L")) for (const level of scores.levels) node.append(svg("line", {x1: x(0), x2: x(scores.L.length * clip), y1: y(level), y2: y(level), class: "threshold", "data-level": level}));
  gutter.append(text(high.toFixed(2), GUTTER - 8, top + 9, {"text-anchor": "end", class: "small"}), text(low.toFixed(2), GUTTER - 8, top + CURVE - 1, {"text-anchor": "end", class: "small"}));
}

function bar(x, start, end, y, style, words, score = null) {
  const wide = x(end) - x(start), numbers = `${words}, ${seconds(start)} to ${seconds(end)}` + (score === null ? "" : `, score ${score.toFixed(3)}`);
  const node = svg("g", {class: "segment"}, svg("title", {}, numbers),
    svg("rect", {x: x(start), y: y + 1, width: Math.max(wide, 1), height: LANE - 3, class: `kind-${style}`, "data-start": start, "data-end": end, "data-style": style}));
  if (score !== null && wide > 34) node.append(svg("rect", {x: x(start) + wide / 2 - 14, y: y + 2, width: 28, height: LANE - 5, class: "paper"}),
    text(score.toFixed(2), x(start) + wide / 2, y + 12, {"text-anchor": "middle", class: "score"}));
  return node;
}

function patterns() {                                  // told apart without colour
  const hatch = (id, angle, style, gap) => svg("pattern", {id, width: gap, height: gap, patternUnits: "userSpaceOnUse", patternTransform: `rotate(${angle})`},
    svg("rect", {width: gap, height: gap, class: `under ${style}`}), svg("rect", {width: 2, height: gap, class: `over ${style}`}));
  const cross = svg("pattern", {id: "cross", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)"},
    svg("rect", {width: 6, height: 6, class: "under p-wrong"}), svg("rect", {width: 1.6, height: 6, class: "over p-wrong"}), svg("rect", {width: 6, height: 1.6, class: "over p-wrong"}));
  return svg("defs", {}, hatch("h-missed", 45, "p-truth", 6), hatch("h-double", 0, "p-hit", 5), hatch("h-shifted", 45, "p-shifted", 6), hatch("h-confused", 135, "p-wrong", 6), hatch("h-moved", 90, "p-moved", 5), cross);
}

function drawLegend() {
  const used = new Set(data.videos.flatMap(video => video.r.flatMap(row => row.d.map(segment => segment[3]))));
  const items = data.tiou === null ? [["plain", "detection", ""]] : [["truth", "ground truth, found", ""], ["missed", "missed", "no detection is matched to it"],
    ...styles.filter((_, kind) => used.has(kind))];
  const sample = style => svg("svg", {width: 26, height: 12, "aria-hidden": "true"}, svg("line", {x1: 1, x2: 25, y1: 6, y2: 6, class: style}));
  for (const box of document.querySelectorAll("[data-curve]")) box.after(sample(`curve curve-${box.dataset.curve}`));
  if (data.videos.some(video => video.q)) $("legend").append(html("span", {}, sample("threshold"), " threshold of L"));
  for (const [style, word, hint] of items) $("legend").append(html("span", {title: hint}, svg("svg", {width: 22, height: 12, "aria-hidden": "true"},
    svg("rect", {x: 1, y: 1, width: 20, height: 10, class: `kind-${style}`})), " " + word));
}

// ------------------------------------------------------------------------------------------------ cursor, keys, sliders

function listen(picture) {
  const place = event => {
    const box = picture.getBoundingClientRect(), y = event.clientY - box.top;
    const row = view.rows.findIndex(item => y < item.bottom + GAP);
    if (row >= 0) state.row = row;
    return Math.min(Math.max((event.clientX - box.left - GUTTER) / (view.width - GUTTER - RIGHT), 0), 1) * view.span;
  };
  picture.addEventListener("pointermove", event => showCursor(place(event)));
  picture.addEventListener("click", event => { showCursor(place(event)); seek(state.cursor); });
  picture.addEventListener("keydown", event => {
    const moves = {ArrowLeft: -clip, ArrowRight: clip, Home: -Infinity, End: Infinity};
    if (event.key in moves) showCursor(Math.min(Math.max((state.cursor ?? 0) + moves[event.key], 0), view.span));
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      state.row = Math.min(Math.max(state.row + (event.key === "ArrowDown" ? 1 : -1), 0), view.rows.length - 1);
      showCursor(state.cursor ?? 0);
    } else if (event.key === "Enter") seek(state.cursor ?? 0);
    else return;
    event.preventDefault();
  });
}

function showCursor(t) {
  state.cursor = t;
  for (const end of ["x1", "x2"]) view.cursor.setAttribute(end, view.x(t));
  view.cursor.setAttribute("visibility", "visible");
  const {row, scores, lanes} = view.rows[state.row] ?? {};
  if (!row) return;
  const words = [`${seconds(t)}, ${data.classes[row.c]}`];
  const k = scores && Math.min(Math.floor(t / clip), scores.L.length - 1);
  if (scores) words.push(`clip ${k}: L ${scores.L[k].toFixed(3)} (threshold ${scores.levels.map(level => level.toFixed(3)).join(", ")}), Q ${scores.Q[k].toFixed(3)}, P ${scores.P[k].toFixed(3)}`);
  for (const lane of lanes) for (const segment of lane.segments) {
    if (t < segment[0] || t >= segment[1]) continue;
    const what = lane.words === "ground truth" ? (segment[2] ? "found" : "missed") : `score ${segment[2].toFixed(3)}`;
    const kind = lane.words === "detected" && data.tiou !== null ? `, ${styles[segment[3]][1]}` : "";
    words.push(`${lane.words} ${seconds(segment[0])} to ${seconds(segment[1])} (${what}${kind})`);
  }
  $("readout").textContent = words.join(" · ");
}

function seek(t) {
  state.time = t;
  if (!$("player").hidden) $("player").currentTime = t;
  movePlayhead(t);
}

function movePlayhead(t) {
  state.time = t;
  if (!view) return;
  for (const end of ["x1", "x2"]) view.playhead.setAttribute(end, view.x(Math.min(t, view.span)));
  view.playhead.setAttribute("visibility", $("player").hidden && !t ? "hidden" : "visible");
}

function moveGutter() {
  view.gutter.setAttribute("transform", `translate(${$("timeline").scrollLeft} 0)`);
}

function drawControls() {
  const possible = view.rows.some(row => row.scores);
  $("controls").hidden = !possible;
  $("lam").value = state.lam;
  $("gamma").value = state.gamma;
  $("lamvalue").textContent = `${+state.lam.toFixed(4)}`;
  $("gammavalue").textContent = state.moved || data.rule.gammas.length === 1 ? `${+state.gamma.toFixed(4)}` : data.rule.gammas.join(", ");
  $("reset").disabled = !state.moved;
  const proposed = view.rows.reduce((sum, row) => sum + (row.lanes.find(lane => lane.words === "sliders")?.segments.length ?? 0), 0);
  const fixed = data.tiou === null ? "The run's own detections stay as they are." : "Tables, AP and the run's own detections stay as they are.";
  $("rulenote").textContent = !possible ? "No clip scores of EM-MIL are kept for this video." : state.moved
    ? `The lane "sliders" is computed in this page: L = λQ + (1 − λ)P, clips above mean(L) + γ(max(L) − min(L)), scored by the mean of L, no NMS: ${proposed} proposals here. ${fixed}`
    : `Move λ or γ to see what they do: L, its threshold and the proposals are recomputed in this page. ${fixed}`;
}

function slide() {
  state.lam = +$("lam").value;
  state.gamma = +$("gamma").value;
  state.moved = true;
  drawTimeline();
}

function keys(event) {
  const typing = event.target.closest("input[type=search], select, video");
  if (event.ctrlKey || event.metaKey || event.altKey || typing) return;
  if (event.key === "j" || event.key === "k") select(state.at + (event.key === "j" ? 1 : -1));
  else if (event.key === "/") $("search").focus();
  else if (event.key === " " && !$("player").hidden && !event.target.closest("button, input, summary, label")) {
    if ($("player").paused) $("player").play(); else $("player").pause();
  } else return;
  event.preventDefault();
}

// ------------------------------------------------------------------------------------------------ video files

function openFolder() {
  state.files = new Map();
  for (const file of $("folder").files) {
    if (/\.(mp4|m4v|webm|mkv|mov|avi|ogv|mpg|mpeg)$/i.test(file.name)) state.files.set(file.name.replace(/\.[^.]*$/, "").toLowerCase(), file);
  }
  loadFile();
}

function loadFile() {
  const player = $("player");
  if (!state.files) return;
  const name = current().n.toLowerCase(), file = state.files.get(name) ?? state.files.get("v_" + name);
  if (state.url) URL.revokeObjectURL(state.url);
  state.url = file ? URL.createObjectURL(file) : null;
  player.hidden = !file;
  if (file) player.src = state.url;
  else player.removeAttribute("src");
  const there = data.videos.filter(video => state.files.has(video.n.toLowerCase()) || state.files.has("v_" + video.n.toLowerCase())).length;
  $("folderstate").textContent = (file ? "" : `No video file in that folder is called ${current().n}. `) + `${there} of ${data.videos.length} videos are there.`;
}

function follow() {
  movePlayhead($("player").currentTime);
  if (!$("player").paused) requestAnimationFrame(follow);
}

// ------------------------------------------------------------------------------------------------ SVG files

const COPIED = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "opacity", "visibility", "paint-order", "font-size", "font-family", "font-weight", "text-anchor"];

function saveSvg(picture, name) {                      // with the styles written into the elements
  const copy = picture.cloneNode(true), nodes = [copy, ...copy.querySelectorAll("*")];
  [picture, ...picture.querySelectorAll("*")].forEach((node, k) => {
    const style = getComputedStyle(node);
    nodes[k].setAttribute("style", COPIED.map(key => `${key}:${style.getPropertyValue(key).replace(/url\("?[^#]*(#[^")]*)"?\)/, "url($1)")}`).join(";"));
  });
  for (const node of copy.querySelectorAll(".cursor")) node.remove();
  copy.querySelector(".gutter")?.removeAttribute("transform");
  copy.prepend(svg("rect", {width: "100%", height: "100%", fill: getComputedStyle(document.body).backgroundColor}));
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  const url = URL.createObjectURL(new Blob([new XMLSerializer().serializeToString(copy)], {type: "image/svg+xml"}));
  html("a", {href: url, download: name.replace(/[^\p{L}\p{N}_-]+/gu, "_") + ".svg"}).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

// ------------------------------------------------------------------------------------------------ start

function start() {
  const used = new Set(data.videos.flatMap(video => video.r.filter(row => row.t.length || row.d.length).map(row => row.c)));
  $("class").append(html("option", {value: ""}, "all classes"), ...data.classes.map((name, c) => [name, c]).filter(([, c]) => used.has(c)).map(([name, c]) => html("option", {value: c}, name)));
  const orders = Object.keys(ORDERS).filter(name => data.tiou !== null || name === "name" || name === "detections");
  $("sort").append(...orders.map(name => html("option", {}, name)));
  for (const id of ["search", "class", "sort"]) $(id).addEventListener("input", filter);
  $("list").addEventListener("scroll", () => requestAnimationFrame(drawList));
  $("list").addEventListener("keydown", event => {
    const moves = {ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8, Home: -Infinity, End: Infinity};
    if (event.key in moves) { select(state.at + moves[event.key]); event.preventDefault(); }
  });
  $("next").addEventListener("click", () => select(state.at + 1));
  $("previous").addEventListener("click", () => select(state.at - 1));
  for (const id of ["lam", "gamma"]) $(id).addEventListener("input", slide);
  $("reset").addEventListener("click", () => { Object.assign(state, {lam: data.rule.lam, gamma: data.rule.gammas[0], moved: false}); drawTimeline(); });
  for (const box of document.querySelectorAll("[data-curve]")) box.addEventListener("input", () => { state.curves[box.checked ? "add" : "delete"](box.dataset.curve); drawTimeline(); });
  for (const [id, factor] of [["in", 2], ["out", 0.5]]) $(id).addEventListener("click", () => { state.zoom = Math.min(Math.max(state.zoom * factor, 1), 32); drawTimeline(); });
  $("timeline").addEventListener("scroll", moveGutter);
  $("save").addEventListener("click", () => saveSvg(view.picture, current().n));
  $("folder").addEventListener("change", openFolder);
  for (const name of ["play", "seeked", "timeupdate"]) $("player").addEventListener(name, follow);
  document.addEventListener("keydown", keys);
  drawLegend();
  const linked = data.videos.findIndex(video => "#" + encodeURIComponent(video.n) === location.hash);
  filter();
  if (linked >= 0) select(state.shown.indexOf(linked));
  let width = 0;
  new ResizeObserver(() => { if ($("timeline").clientWidth !== width) { width = $("timeline").clientWidth; drawTimeline(); drawList(); } }).observe($("timeline"));
  drawOverview();
}

start();
