"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Numbers as numbers, text as text, and what is missing last in either direction.
  const number = cell => {
    if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
    const text = cell.textContent.trim().replace(/−/g, "-").match(/^\[?([+-]?\d+(?:\.\d+)?)/);
    return text ? Number(text[1]) : NaN;
  };
  const text = cell => cell.textContent.trim();
  const missing = cell => cell.classList.contains("none");

  const sorters = all("table:not(.plain)").map(table => {
    const body = table.tBodies[0];
    const original = [...body.rows];
    const lines = original.filter(row => !row.classList.contains("fam"));
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    heads.forEach((head, column) => {
      const present = lines.map(row => row.cells[column]).filter(cell => !missing(cell));
      const numeric = head.dataset.sort !== "text" && present.length > 0 && present.every(cell => !isNaN(number(cell)));
      if (!numeric && column > 0) [head, ...lines.map(row => row.cells[column])].forEach(cell => cell.classList.add("t"));
      const button = document.createElement("button");
      button.type = "button";
      button.append(head.firstChild);
      button.title = "Sort; a third press restores the order";
      head.prepend(button);
      head.setAttribute("aria-sort", "none");
      const first = head.dataset.best === "high" ? "descending" : "ascending";
      const second = first === "ascending" ? "descending" : "ascending";
      // The whole cell sorts; a link in it leads to a definition.
      head.addEventListener("click", event => {
        if (event.target.closest("a")) return;
        const before = head.getAttribute("aria-sort");
        const order = before === "none" ? first : before === first ? second : "none";
        heads.forEach(other => other.setAttribute("aria-sort", "none"));
        head.setAttribute("aria-sort", order);
        table.dataset.sorted = order === "none" ? "" : order;
        const sign = order === "descending" ? -1 : 1;
        const compare = (a, b) => {
          const [x, y] = [a.cells[column], b.cells[column]];
          if (missing(x) || missing(y)) return missing(x) - missing(y);
          return sign * (numeric ? number(x) - number(y) : text(x).localeCompare(text(y), "en", { numeric: true }));
        };
        body.append(...(order === "none" ? original : [...original.filter(row => !lines.includes(row)), ...[...lines].sort(compare)]));
        apply();
      });
    });
    return { table, lines, families: original.filter(row => row.classList.contains("fam")) };
  });

  const models = document.getElementById("models");
  const dataset = document.getElementById("dataset");
  const matches = (...names) => {
    const words = models.value.toLowerCase().split(/[\s,]+/).filter(Boolean);
    return words.length === 0 || words.some(word => names.some(name => name.toLowerCase().includes(word)));
  };
  const families = new Map();
  sorters.forEach(({ lines }) => lines.forEach(row => families.set(row.dataset.m, [row.dataset.m, row.dataset.f, row.cells[0].textContent])));

  function apply() {
    let shown = 0, total = 0;
    sorters.forEach(({ table, lines, families: headings }) => {
      lines.forEach(row => {
        row.hidden = !matches(row.dataset.m, row.dataset.f, row.cells[0].textContent);
        total += 1;
        shown += !row.hidden;
      });
      headings.forEach(heading => {
        const name = heading.textContent.trim();
        heading.hidden = Boolean(table.dataset.sorted) || !lines.some(row => !row.hidden && row.dataset.f === name);
      });
    });
    const kept = part => matches(...(families.get(part.dataset.m) || [part.dataset.m]));
    all(".pt").forEach(shape => shape.classList.toggle("off", !kept(shape)));
    all(".cell[data-m], .plain [data-m]").forEach(part => { part.hidden = !kept(part); });
    const chosen = dataset ? dataset.value : "";
    all("[data-dataset]").forEach(part => {
      part.hidden = Boolean(chosen && part.dataset.dataset && !part.dataset.dataset.split("+").includes(chosen) && part.dataset.dataset !== chosen);
    });
    document.getElementById("count").textContent = models.value.trim() ? `${shown} of ${total} rows` : "";
  }
  models.addEventListener("input", apply);
  if (dataset) dataset.addEventListener("change", apply);
  const tools = document.getElementById("tools");
  tools.addEventListener("submit", event => event.preventDefault());
  tools.hidden = false;

  // Heads of tables stick below the bar, and only tables that are too wide scroll.
  const fit = () => {
    document.documentElement.style.setProperty("--bar", `${document.getElementById("bar").offsetHeight}px`);
    all(".scroll").forEach(box => {
      const content = box.firstElementChild;
      const fits = content.getBoundingClientRect().width <= box.clientWidth + 1;
      box.classList.toggle("fits", fits);
      box.classList.toggle("cut", !fits);
    });
  };
  fit();
  window.addEventListener("resize", fit);
  all("details").forEach(part => part.addEventListener("toggle", fit));
  window.addEventListener("beforeprint", () => all("main details").forEach(part => { part.open = true; }));

  // A model's shapes without words of their own tell those of its first shape in the plot. One stop of the Tab key per
  // plot; arrows go from one shape with words to the next.
  const tip = document.getElementById("tip");
  const show = point => {
    const box = point.getBoundingClientRect();
    tip.textContent = words.get(point);
    tip.hidden = false;
    const left = Math.min(box.left + box.width / 2 + 10, document.documentElement.clientWidth - tip.offsetWidth - 8);
    const below = box.bottom + 6 + tip.offsetHeight <= window.innerHeight;
    tip.style.left = `${Math.max(left, 8)}px`;
    tip.style.top = `${below ? box.bottom + 6 : Math.max(box.top - tip.offsetHeight - 6, 4)}px`;
    all("[data-m]").forEach(other => other.classList.toggle("on", other.dataset.m === point.dataset.m));
    all(".drawn").forEach(plot => plot.classList.toggle("lit", plot.querySelector(".on") !== null));
  };
  const hide = () => {
    tip.hidden = true;
    all(".lit, .on").forEach(shape => shape.classList.remove("lit", "on"));
  };
  const words = new Map();
  all(".drawn").forEach(plot => {
    const shapes = all(".pt", plot);
    const points = shapes.filter(shape => shape.querySelector("title"));
    const first = new Map(points.map(point => [point.dataset.m, point]).reverse());
    points.forEach(point => words.set(point, point.querySelector("title").textContent));
    shapes.forEach(shape => {
      if (!words.has(shape)) words.set(shape, words.get(first.get(shape.dataset.m)) || shape.dataset.m);
      shape.addEventListener("pointerenter", () => show(shape));
      shape.addEventListener("pointerleave", hide);
    });
    points.forEach((point, index) => {
      point.querySelector("title").remove();
      point.setAttribute("aria-label", words.get(point));
      point.setAttribute("role", "img");
      point.setAttribute("tabindex", index === 0 ? "0" : "-1");
      point.addEventListener("focus", () => show(point));
      point.addEventListener("blur", hide);
      point.addEventListener("keydown", event => {
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        if (event.key === "Escape") hide();
        if (!step) return;
        event.preventDefault();
        const next = points[(index + step + points.length) % points.length];
        point.setAttribute("tabindex", "-1");
        next.setAttribute("tabindex", "0");
        next.focus();
      });
    });
  });
})();
