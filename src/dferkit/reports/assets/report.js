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
          // Only cells above a uniform plan are highlighted.
          const top = Math.max(data.peaks[chosen] - data.even, 1e-12);
          paint(pen, w, h, "232,106,16", (cell) => (weight(chosen, frame, cell) - data.even) / top);
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
    function describe() {
      if (spot) {
        const all = data.phrases.map((text, i) => [weight(i, spot.frame, spot.cell) / data.even, text, i])
          .filter((item) => item[0] > 1.5).sort((a, b) => b[0] - a[0]);
        const seen = new Set();
        const near = all.filter((item) => !seen.has(item[1].toLowerCase()) && seen.add(item[1].toLowerCase())).slice(0, 4);
        const least = near.length ? near[near.length - 1][0] : Infinity;
        phrases.forEach((p) => p.classList.toggle("met", all.some((item) => item[2] === number(p) && item[0] >= least)));
        const list = near.map((item) => `${item[1]} (${item[0].toFixed(1)} times uniform)`).join(", ");
        const region = data.regions[data.grid[spot.cell]];
        const moved = ((motion[spot.frame * cells + spot.cell] / 255) * data.motionPeak).toFixed(1);
        const place = data.cells === "frames" ? "" : `, ${region}`;
        readout.textContent = `${data.times[spot.frame].toFixed(2)} s${place}, motion ${moved} times the mean: ` + (list || "no phrase above 1.5 times uniform");
        return;
      }
      phrases.forEach((p) => p.classList.remove("met"));
      if (overlay === "motion") readout.textContent = `Blue: ${data.cells} that move more than average.`;
      else if (overlay === "evidence") readout.textContent = `Purple: ${data.cells} that the answer owes most to.`;
      else if (overlay === "none" || chosen < 0) readout.textContent = "";
      else {
        let best = 0;
        for (let i = 0; i < size; i++) if (maps[chosen * size + i] > maps[chosen * size + best]) best = i;
        const frame = Math.floor(best / cells);
        readout.textContent = `“${data.phrases[chosen]}” is seen most at ${data.times[frame].toFixed(2)} s${data.cells === "frames" ? "" : ` on: ${data.regions[data.grid[best % cells]]}`}.`;
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
