// Hovering shows the values of a step; dragging zooms all charts of the same steps to those between; a double click shows
// all again.
(() => {
  const SVG = "http://www.w3.org/2000/svg", charts = [];
  const number = (v) => {
    const size = Math.abs(v);
    for (const [least, unit, prefix] of [[1e12, 1e12, "T"], [1e9, 1e9, "G"], [1e6, 1e6, "M"], [1e4, 1e3, "k"]])
      if (size >= least) return +(v / unit).toPrecision(4) + prefix;
    if (size >= 1000) return Math.round(v).toLocaleString("en");
    return size >= 1e-3 || !v ? String(+v.toPrecision(4)) : (+v.toPrecision(4)).toExponential();
  };
  const ticks = (low, high, count) => {
    const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
    const space = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= rough * 0.999), found = [];
    for (let n = Math.ceil(low / space - 1e-9); n * space <= high + space * 1e-9; n++) found.push(n * space);
    return found;
  };
  const draw = (parent, name, values, text) => {
    const node = parent.appendChild(document.createElementNS(SVG, name));
    for (const key in values) node.setAttribute(key, values[key]);
    if (text !== undefined) node.textContent = text;
  };
  const nearest = (xs, x) => {
    let low = 0, high = xs.length - 1;
    while (high - low > 1) { const middle = (low + high) >> 1; if (xs[middle] < x) low = middle; else high = middle; }
    return Math.abs(xs[low] - x) <= Math.abs(xs[high] - x) ? low : high;
  };

  const isLike = (source) => (chart) => chart.data.x.join() === source.data.x.join();
  const zoom = (source, from, to) => charts.filter(isLike(source)).forEach((chart) => {
    const { data, plot, box, group } = chart, heights = [];
    const [x0, x1] = data.x, [y0, y1] = data.y, a = from ?? x0, b = to ?? x1;
    data.series.forEach((each, s) => each.x.forEach((x, i) => {
      if (x < a || x > b || (data.stack && s)) return;
      heights.push(data.stack ? data.series.reduce((sum, other) => sum + other.y[i], 0) : each.y[i]);
    }));
    let [low, high] = [y0, y1];
    if (from !== undefined && heights.length) {
      low = Math.min(...heights); high = Math.max(...heights);
      const margin = (high - low) * 0.05 || Math.abs(high) * 0.05 || 1;
      [low, high] = data.zero && low >= 0 ? [0, high * 1.05 || 1] : [low - margin, high + margin];
    }
    chart.view = [a, b];
    const left = (a - x0) / (x1 - x0) * box.w, top = (y1 - high) / (y1 - y0) * box.h;
    const width = (b - a) / (x1 - x0) * box.w, height = (high - low) / (y1 - y0) * box.h;
    plot.setAttribute("viewBox", `${left} ${top} ${width} ${height}`);
    plot.querySelectorAll(".marker").forEach((each) => {
      const x = parseFloat(each.getAttribute("d").slice(1)), share = each.classList.contains("flag") ? 9 / box.h : 1;
      each.setAttribute("d", `M${x} ${top}v${share * height}`);
    });
    group.replaceChildren();
    let rows = ticks(low, high, 4).map((y) => [y, data.log ? 10 ** y : y]);
    if (data.log) {
      rows = [];
      for (let n = Math.floor(low); n <= Math.ceil(high); n++)
        for (const f of high - low < 2.5 ? [1, 2, 5] : [1]) {
          const y = n + Math.log10(f);
          if (y >= low && y <= high) rows.push([y, f * 10 ** n]);
        }
    }
    for (const [y, value] of rows) {
      const place = box.y + (high - y) / (high - low) * box.h;
      draw(group, "path", { d: `M${box.x} ${place}h${box.w}` });
      draw(group, "text", { class: "left", x: box.x - 6, y: place + 3.5 }, number(value));
    }
    for (const x of ticks(a, b, 6))
      draw(group, "text", { class: "below", x: box.x + (x - a) / (b - a) * box.w, y: box.y + box.h + 15 }, number(x));
  });

  document.querySelectorAll(".chart").forEach((figure) => {
    const svg = figure.querySelector("svg"), plot = svg.querySelector(".plot"), hover = svg.querySelector(".hover");
    const size = (name) => +plot.getAttribute(name);
    const box = { x: size("x"), y: size("y"), w: size("width"), h: size("height") };
    const data = JSON.parse(figure.querySelector("script").textContent);
    const chart = { data, plot, box, group: svg.querySelector(".ticks"), view: data.x };
    charts.push(chart);
    const tip = figure.appendChild(document.createElement("div"));
    tip.className = "tip"; tip.hidden = true;
    let start = null;
    const at = (event) => {
      const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      const share = Math.min(1, Math.max(0, (place.x - box.x) / box.w));
      return chart.view[0] + share * (chart.view[1] - chart.view[0]);
    };
    const across = (x) => box.x + (x - chart.view[0]) / (chart.view[1] - chart.view[0]) * box.w;
    const leave = () => { tip.hidden = true; hover.replaceChildren(); };
    svg.addEventListener("pointermove", (event) => {
      const x = at(event), line = (name, text) => {
        const row = tip.appendChild(document.createElement("div"));
        if (name !== null) { row.className = name; row.append(document.createElement("i")); }
        row.appendChild(document.createElement("span")).textContent = text;
      };
      leave();
      let step = null;
      const found = data.series.filter((each) => each.x.length).map((each) => {
        const i = nearest(each.x, x);
        if (step === null || Math.abs(each.x[i] - x) < Math.abs(step - x)) step = each.x[i];
        return [each, i];
      });
      if (step === null) return;
      tip.replaceChildren();
      line(null, `${data.across.split(" ").pop()} ${Math.round(step).toLocaleString("en")}`);
      for (const [each, i] of data.stack ? found.reverse() : found)
        line(`c${each.colour}`, `${each.name}: ${number(data.log ? 10 ** each.y[i] : each.y[i])}`);
      const near = (chart.view[1] - chart.view[0]) * 0.008;
      for (const [place, text] of data.markers) if (Math.abs(place - x) <= near) line(null, text);
      draw(hover, "path", { d: `M${across(step)} ${box.y}v${box.h}` });
      if (start !== null) {
        const [a, b] = [across(start), across(x)];
        draw(hover, "rect", { x: Math.min(a, b), y: box.y, width: Math.abs(b - a), height: box.h });
      }
      tip.hidden = false;
      const frame = figure.getBoundingClientRect(), place = event.clientX - frame.left;
      tip.style.left = `${place + 14 + tip.offsetWidth > frame.width ? place - 14 - tip.offsetWidth : place + 14}px`;
      const isLow = event.clientY + 12 + tip.offsetHeight > innerHeight;
      tip.style.top = `${event.clientY - frame.top + (isLow ? -12 - tip.offsetHeight : 12)}px`;
    });
    svg.addEventListener("pointerleave", () => { if (start === null) leave(); });
    svg.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      start = at(event);
      svg.setPointerCapture(event.pointerId);
    });
    svg.addEventListener("pointerup", (event) => {
      const [a, b] = [start, at(event)].sort((p, q) => p - q);
      start = null;
      if (b - a > (chart.view[1] - chart.view[0]) * 0.01) { leave(); zoom(chart, a, b); }
    });
    svg.addEventListener("dblclick", () => zoom(chart));
  });
})();
