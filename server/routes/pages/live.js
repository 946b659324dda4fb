/* The console's charts: /metrics every two seconds since the page was opened. */

const PERIOD_MS = 2000, POINTS_MAX = 900;
const QUIET = new Set(["/heads", "/health", "/livez", "/readyz", "/info", "/metrics", "/openapi.yaml", "/docs", "/", "/assets", "/admin/heads",
  "/v1/models", "other"]);
const live = {opened: performance.now(), points: [], swaps: [], heads: [], before: null, cursor: null};
const charts = [
  {title: "Throughput", unit: "a second", series: () => [["requests", "requests"], ["texts", "texts"]], tell: compact},
  {title: "Latency", unit: "answered requests", series: () => [["p50", "p50"], ["p99", "p99"]], tell: duration},
  {title: "Batch", unit: "in one", whole: true, series: () => [["batchTokens", "tokens"], ["batchTexts", "texts"]], tell: compact},
  {title: "Queue", unit: "waiting", whole: true, series: () => [["queueTokens", "tokens"], ["queueRequests", "requests"]], tell: compact},
  {title: "Refusals", unit: "a second", series: () => [["r429", "429 busy"], ["r5xx", "503, 504"], ["r4xx", "other 4xx"]], tell: compact},
  {title: "Heads", unit: "predictions a second", series: () => live.heads.map(name => [`head ${name}`, name]), tell: compact},
];

/* -- Prometheus text ------------------------------------------------------------------------ */
/* [{name, labels, value}, …] */
function parseMetrics(text) {
  return text.split("\n").filter(line => line && line[0] !== "#").map(line => {
    const at = line.lastIndexOf(" "), brace = line.indexOf("{"), name = brace < 0 ? line.slice(0, at) : line.slice(0, brace);
    const labels = {};
    if (brace >= 0) for (const [, k, v] of line.slice(brace, at).matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) labels[k] = v;
    return {name, labels, value: Number(line.slice(at + 1)), key: line.slice(0, at)};
  });
}
const total = (samples, name, keep = () => true) =>
  samples.reduce((sum, s) => s.name === name && keep(s.labels) ? sum + s.value : sum, 0);
/* Quantile of what a histogram gained, linear inside its bucket; null where it gained nothing. */
function quantile(now, before, name, q) {
  const gains = new Map();
  for (const [samples, sign] of [[now, 1], [before, -1]])
    for (const s of samples) if (s.name === `${name}_bucket`) {
      const bound = s.labels.le === "+Inf" ? Infinity : Number(s.labels.le);
      gains.set(bound, (gains.get(bound) || 0) + sign * s.value);
    }
  const count = gains.get(Infinity) || 0;
  if (count <= 0) return null;
  let low = 0, lowCount = 0;
  for (const bound of [...gains.keys()].sort((a, b) => a - b)) {
    const here = gains.get(bound);
    if (here >= q * count) return bound === Infinity ? low : low + (bound - low) * (q * count - lowCount) / Math.max(1e-9, here - lowCount);
    [low, lowCount] = [bound, here];
  }
  return low;
}
function pointOf(now, before, seconds) {
  const gain = (name, keep) => Math.max(0, total(now, name, keep) - total(before, name, keep));
  const rate = (name, keep) => gain(name, keep) / seconds;
  const asked = keep => rate("orthrus_requests_total", l => !QUIET.has(l.route) && keep(l.code));
  const batches = gain("orthrus_batch_tokens_count"), per = name => batches ? gain(name) / batches : null;
  const point = {
    requests: asked(() => true), texts: rate("orthrus_batch_texts_sum"),
    p50: quantile(now, before, "orthrus_request_duration_seconds", .5), p99: quantile(now, before, "orthrus_request_duration_seconds", .99),
    batchTokens: per("orthrus_batch_tokens_sum"), batchTexts: per("orthrus_batch_texts_sum"),
    queueTokens: total(now, "orthrus_queue_tokens"), queueRequests: total(now, "orthrus_queue_requests"),
    r429: asked(code => code === "429"), r5xx: asked(code => code === "503" || code === "504"),
    r4xx: asked(code => code[0] === "4" && code !== "429"),
  };
  for (const name of live.heads) point[`head ${name}`] = rate("orthrus_predictions_total", l => l.head === name);
  return point;
}

/* -- drawing -------------------------------------------------------------------------------- */
/* About n round numbers from 0 to at least top. */
function ticks(top, n, whole) {
  const rough = top / n, power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(whole ? 1 : 0, [1, 2, 2.5, 5, 10].find(f => f * power >= rough * .999) * power);
  return Array.from({length: Math.ceil(top / step - 1e-9) + 1}, (_, i) => i * step);
}
function timeTicks(span) {
  const step = [10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600].find(s => span / s <= 4.5) || 86400;
  return Array.from({length: Math.floor(span / step) + 1}, (_, i) => i * step);
}
function drawChart(chart) {
  const series = chart.series(), box = chart.svg, width = box.clientWidth || 320, height = box.clientHeight || 168;
  const left = 46, right = width - 8, top = 14, bottom = height - 20, points = live.points;
  const span = Math.max(60, points.length ? points[points.length - 1].t : 0);
  const most = Math.max(0, ...points.flatMap(p => series.map(([key]) => p[key] || 0)));
  const marks = ticks(most || 1, 3, chart.whole), x = t => left + (right - left) * t / span, y = v => bottom - (bottom - top) * v / marks[marks.length - 1];
  const nodes = marks.flatMap(v => [svg("line", {class: v ? "grid" : "base", x1: left, x2: right, y1: y(v), y2: y(v)}),
    svg("text", {x: left - 6, y: y(v) + 4, "text-anchor": "end"}, v ? chart.tell(v) : "0")]);
  nodes.push(...timeTicks(span).map(t => svg("text", {x: x(t), y: height - 5, "text-anchor": t === 0 ? "start" : x(t) > right - 16 ? "end" : "middle"}, clock(t))));
  for (const {t, text} of live.swaps)
    nodes.push(svg("line", {class: "swap", x1: x(t), x2: x(t), y1: top - 2, y2: bottom}),
      svg("text", {x: x(t) + (x(t) > right - 30 ? -4 : 4), y: top - 3, "text-anchor": x(t) > right - 30 ? "end" : "start"}, text));
  series.forEach(([key], which) => {
    let path = "", alones = "", pen = false;
    points.forEach((p, i) => {
      const value = p[key];
      if (value === null || value === undefined) { pen = false; return; }
      const next = points[i + 1], alone = !pen && (!next || next[key] === null || next[key] === undefined);
      if (alone) alones += `M${x(p.t).toFixed(1)} ${y(value).toFixed(1)}h.01`;
      path += `${pen ? "L" : "M"}${x(p.t).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = true;
    });
    nodes.push(svg("path", {class: `line s${Math.min(which, 3)}`, d: path}), svg("path", {class: `line alone s${Math.min(which, 3)}`, d: alones}));
  });
  if (live.cursor !== null && points[live.cursor])
    nodes.push(svg("line", {class: "cursor", x1: x(points[live.cursor].t), x2: x(points[live.cursor].t), y1: top, y2: bottom}));
  box.replaceChildren(...nodes);
  chart.place = at => points.reduce((best, p, i) => Math.abs(x(p.t) - at) < Math.abs(x(points[best].t) - at) ? i : best, 0);
  tellChart(chart, series);
}
/* The legend tells the numbers under the cursor, else the newest that there are. */
function tellChart(chart, series) {
  const point = live.cursor === null ? {} : live.points[live.cursor];
  const known = v => v !== null && v !== undefined;
  const newest = key => (live.points.findLast(p => known(p[key])) || {})[key];
  const value = key => {
    const v = live.cursor === null ? newest(key) : point[key];
    return known(v) ? chart.tell(v) : "–";
  };
  chart.legend.replaceChildren(...series.map(([key, name], i) =>
    el("li", {}, svg("svg", {viewBox: "0 0 28 10", "aria-hidden": "true"}, svg("path", {class: `line s${Math.min(i, 3)}`, d: "M0 5H28"})),
      `${name} `, el("b", {}, value(key)))));
  chart.when.textContent = live.cursor === null ? "" : ` at ${clock(point.t || 0)}`;
  chart.svg.setAttribute("aria-label", `${chart.title}, ${chart.unit}: ${series.map(([key, name]) => `${name} ${value(key)}`).join(", ")}` +
    (live.swaps.length ? `; heads swapped at ${live.swaps.map(s => `${clock(s.t)} to ${s.text}`).join(", ")}` : ""));
}
const drawLive = () => charts.forEach(drawChart);
function moveCursor(index) {
  live.cursor = index === null || !live.points.length ? null : Math.min(live.points.length - 1, Math.max(0, index));
  drawLive();
}
function makeChart(chart) {
  chart.svg = svg("svg", {role: "img", tabindex: 0});
  chart.legend = el("ul", {class: "legend"});
  chart.when = el("span", {class: "note num"});
  chart.svg.addEventListener("pointermove", e => moveCursor(chart.place(e.offsetX)));
  chart.svg.addEventListener("pointerleave", () => moveCursor(null));
  chart.svg.addEventListener("blur", () => moveCursor(null));
  chart.svg.addEventListener("keydown", e => {
    const step = {ArrowLeft: -1, ArrowRight: 1}[e.key];
    if (step) { e.preventDefault(); moveCursor((live.cursor ?? live.points.length - 1) + step); }
    if (e.key === "Escape") moveCursor(null);
  });
  return el("figure", {}, el("figcaption", {}, chart.title, " ", el("span", {class: "note"}, chart.unit), chart.when), chart.svg, chart.legend);
}

/* -- polling -------------------------------------------------------------------------------- */
/* Twice as many points as a chart needs: each two become one that keeps the larger value, so that peaks stay. */
function thin(points) {
  return points.filter((_, i) => i % 2 === 0).map((a, i) => {
    const b = points[2 * i + 1] || a, merged = {t: b.t};
    for (const key of new Set([...Object.keys(a), ...Object.keys(b)]))
      if (key !== "t") merged[key] = a[key] === null || a[key] === undefined ? b[key] : Math.max(a[key], b[key] ?? a[key]);
    return merged;
  });
}
function take(now, at) {
  const t = (at - live.opened) / 1e3, version = now.find(s => s.name === "orthrus_heads_info" && s.value);
  for (const s of now) if (s.name === "orthrus_predictions_total" && !live.heads.includes(s.labels.head)) live.heads.push(s.labels.head);
  if (live.before) {
    live.points.push({t, ...pointOf(now, live.before.samples, (at - live.before.at) / 1e3)});
    if (version && live.version && version.key !== live.version) {
      live.swaps.push({t, text: `v${version.labels.version}`});
      askHeads().catch(() => {});
    }
    if (live.points.length > POINTS_MAX) {
      live.points = thin(live.points);
      live.cursor = null;
    }
  }
  live.version = version && version.key;
  live.before = {samples: now, at};
}
async function poll() {
  try {
    const answer = await fetch("/metrics");
    if (answer.ok) take(parseMetrics(await answer.text()), performance.now());
  } catch {
    /* A gap in the lines: nothing is known about this time. */
    if (live.before) live.points.push({t: (performance.now() - live.opened) / 1e3});
    live.before = null;
  }
  const up = await fetch("/readyz").then(answer => answer.ok ? "ready" : "not ready", () => "not reachable");
  if ($("ready").textContent !== up) {
    $("ready").className = `pill ${up === "ready" ? "up" : "down"}`;
    $("ready").textContent = up;
  }
  drawLive();
  setTimeout(poll, PERIOD_MS);
}
function startLive() {
  const draw = view("live", "Live", () => curlOf("/metrics"), () => ({seconds_since_opened: true, swaps: live.swaps, points: live.points}),
    el("span", {class: "note"}, "since this page was opened; every 2 s from /metrics"));
  draw(el("div", {class: "charts"}, ...charts.map(makeChart)));
  new ResizeObserver(drawLive).observe($("live"));
  poll();
}
