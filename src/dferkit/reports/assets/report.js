"use strict";
(() => {
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

  // One explained answer: phrases, faces and the maps between them.
  function explain(section) {
    const source = section.querySelector("script.maps");
    if (!source) return;
    const data = JSON.parse(source.textContent);
    const cells = data.rows * data.columns, size = data.frames * cells;
    const maps = bytes(data.maps), motion = bytes(data.motion), evidence = bytes(data.evidence);
    const phrases = [...section.querySelectorAll(".phrase")];
    const faces = [...section.querySelectorAll(".face")];
    const buttons = [...section.querySelectorAll(".overlays button")];
    const readout = section.querySelector(".readout");
    const number = (element) => Number(element.dataset.phrase);
    const weight = (phrase, frame, cell) => (maps[phrase * size + frame * cells + cell] / 255) * data.peaks[phrase];
    let overlay = "phrase", pinned = data.start, chosen = data.start, spot = null;

    function draw() {
      phrases.forEach((p) => p.classList.toggle("on", overlay === "phrase" && number(p) === chosen));
      faces.forEach((face, frame) => {
        const canvas = face.querySelector("canvas"), pen = canvas.getContext("2d");
        const w = canvas.width / data.columns, h = canvas.height / data.rows;
        pen.clearRect(0, 0, canvas.width, canvas.height);
        if (overlay === "phrase" && chosen >= 0) {
          // Only cells above an even share are highlighted.
          const top = Math.max(data.peaks[chosen] - data.even, 1e-12);
          paint(pen, w, h, data.shares[chosen] < 0 ? "30,80,200" : "232,106,16", (cell) => (weight(chosen, frame, cell) - data.even) / top);
        } else if (overlay === "evidence") {
          paint(pen, w, h, "176,0,150", (cell) => evidence[frame * cells + cell] / 255);
        } else if (overlay === "motion") {
          const top = Math.max(data.motionPeak - 1, 1e-12);
          paint(pen, w, h, "0,140,200", (cell) => ((motion[frame * cells + cell] / 255) * data.motionPeak - 1) / top);
        }
        if (spot && spot.frame === frame) {
          const row = Math.floor(spot.cell / data.columns), column = spot.cell % data.columns;
          pen.lineWidth = 2; pen.strokeStyle = "#fff"; pen.strokeRect(column * w - 1, row * h - 1, w + 2, h + 2);
          pen.lineWidth = 1; pen.strokeStyle = "#000"; pen.strokeRect(column * w, row * h, w, h);
        }
      });
    }
    function paint(pen, w, h, colour, level) {
      for (let cell = 0; cell < cells; cell++) {
        const a = level(cell);
        if (a <= 0.08) continue;
        pen.fillStyle = `rgba(${colour},${(0.8 * Math.min(a, 1) ** 0.75).toFixed(3)})`;
        pen.fillRect((cell % data.columns) * w, Math.floor(cell / data.columns) * h, w, h);
      }
    }
    const percent = (share) => `${Math.round(100 * share)}\u00a0%`.replace("-", "−");
    const short = (text) => text.split(",")[0];
    function describe() {
      if (spot) {
        // The part of the phrase's share that this cell has; cells below an even part, which the picture leaves clear, and less than half a per cent are left out.
        const here = data.phrases.map((text, i) => [weight(i, spot.frame, spot.cell), short(text), i])
          .filter((item) => item[0] > Math.max(data.even, 0.005)).sort((a, b) => b[0] * Math.abs(data.shares[b[2]]) - a[0] * Math.abs(data.shares[a[2]])).slice(0, 4);
        phrases.forEach((p) => p.classList.toggle("met", here.some((item) => item[2] === number(p))));
        const list = here.map((item) => `${percent(item[0])} of the share of “${item[1]}”`).join(", ");
        const region = data.regions[data.grid[spot.cell]];
        const moved = ((motion[spot.frame * cells + spot.cell] / 255) * data.motionPeak).toFixed(1);
        const place = data.cells === "frames" ? "" : `, ${region}`;
        readout.textContent = `${data.times[spot.frame].toFixed(2)} s${place}, motion ${moved} times the mean. This cell holds ` + (list || "no more than an even part of any phrase's share") + ".";
        return;
      }
      phrases.forEach((p) => p.classList.remove("met"));
      const key = `Stronger colour: more; ${data.cells} below the mean stay clear.`;
      if (overlay === "motion") readout.textContent = `Blue: ${data.cells} that move more than the mean. ${key}`;
      else if (overlay === "evidence") readout.textContent = `Purple: ${data.cells} on which the score depends most, as the deletion test removes them. Stronger colour: more.`;
      else if (overlay === "none" || chosen < 0) readout.textContent = "";
      else {
        const [region, part, seconds] = data.places[chosen], share = data.shares[chosen];
        const worth = data.isExact ? percent(share) : `${share < 0 ? "−" : ""}${Math.abs(share).toFixed(3)} probability`;
        const where = data.cells === "frames" ? "" : ` Main region: ${region} (${percent(part)} of it).`;
        readout.textContent = `${share < 0 ? "Blue: where this phrase lowers" : "Orange: where this phrase raises"} the score (${worth}), most at ${seconds === null ? "no time" : `${seconds.toFixed(2)} s`}.${where} ${key}`;
      }
    }
    const update = () => { draw(); describe(); };
    const choose = (name) => {
      overlay = name;
      buttons.forEach((b) => b.setAttribute("aria-pressed", String(b.dataset.overlay === name)));
    };
    buttons.forEach((b) => b.addEventListener("click", () => { choose(b.dataset.overlay); update(); }));
    phrases.forEach((p) => {
      const highlight = () => { chosen = number(p); spot = null; choose("phrase"); update(); };
      p.addEventListener("pointerenter", highlight);
      p.addEventListener("focus", highlight);
      p.addEventListener("click", () => { pinned = number(p); highlight(); });
      p.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); pinned = number(p); highlight(); } });
      p.addEventListener("pointerleave", () => { chosen = pinned; update(); });
    });
    faces.forEach((face, frame) => {
      const at = (event) => {
        const box = face.getBoundingClientRect();
        const column = Math.min(data.columns - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * data.columns)));
        const row = Math.min(data.rows - 1, Math.max(0, Math.floor(((event.clientY - box.top) / box.height) * data.rows)));
        spot = { frame, cell: row * data.columns + column }; update();
      };
      face.addEventListener("pointermove", at);
      face.addEventListener("pointerdown", at);
      face.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") { spot = null; update(); } });
      face.addEventListener("keydown", (event) => {
        const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -data.columns, ArrowDown: data.columns }[event.key];
        if (event.key === "Escape") { spot = null; update(); return; }
        if (step === undefined) return;
        event.preventDefault();
        const now = spot && spot.frame === frame ? spot.cell : Math.floor(data.rows / 2) * data.columns + Math.floor(data.columns / 2);
        spot = { frame, cell: Math.min(cells - 1, Math.max(0, now + step)) }; update();
      });
    });
    update();
  }

  function sortable(table) {
    const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
    const value = (row, i) => { const cell = row.cells[i]; return cell.dataset.value !== undefined ? cell.dataset.value : cell.textContent; };
    heads.forEach((head, i) => head.querySelector("button").addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") === "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...body.rows].sort((a, b) => {
        const x = value(a, i), y = value(b, i), n = Number(x) - Number(y);
        return (Number.isNaN(n) ? x.localeCompare(y) : n) * (up ? 1 : -1);
      });
      rows.forEach((row) => body.append(row));
    }));
  }

  document.querySelectorAll(".clip").forEach(explain);
  document.querySelectorAll("table.sortable").forEach(sortable);
})();
