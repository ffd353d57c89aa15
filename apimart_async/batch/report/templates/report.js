"use strict";
(() => {
  const PER_PAGE = 48;
  const WORDS = { saved: "Saved", failed: "Failed", in_doubt: "In doubt", unfinished: "Unfinished" };
  const $ = (id) => document.getElementById(id);
  const rows = JSON.parse($("rows").textContent);
  const haystacks = new Array(rows.length);
  let found = rows;
  let page = 0;

  const haystack = (row, index) =>
    (haystacks[index] ??= [row.name, row.prompt, row.model, row.error, row.id, row.task, row.source]
      .filter(Boolean).join("\n").toLowerCase());

  const orders = {
    begun: null,
    slowest: (a, b) => (b.seconds ?? -1) - (a.seconds ?? -1),
    fastest: (a, b) => (a.seconds ?? Infinity) - (b.seconds ?? Infinity),
    dearest: (a, b) => (b.cost ?? -1) - (a.cost ?? -1),
  };

  const select = () => {
    const status = document.querySelector("input[name=status]:checked").value;
    const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    found = rows.filter((row, index) =>
      (status === "all" || row.status === status) && words.every((word) => haystack(row, index).includes(word)));
    const order = orders[$("order").value];
    if (order) found.sort(order);
    show(0);
  };

  const duration = (seconds) =>
    seconds < 60 ? `${seconds.toFixed(1)} s` : `${Math.floor(seconds / 60)}:${String(Math.round(seconds % 60)).padStart(2, "0")} min`;
  const dollars = (cost) => `$${cost.toFixed(4).replace(/(\.\d\d\d*?)0+$/, "$1")}`;

  const slide = (pair, slider) => {
    const set = () => {
      pair.style.setProperty("--at", `${slider.value}%`);
      slider.setAttribute("aria-valuetext", `${slider.value} % before`);
    };
    slider.addEventListener("input", set);
    set();
  };

  const put = (image, source, alt, onError) => {
    image.alt = alt;
    image.hidden = false;
    image.addEventListener("error", onError, { once: true });
    image.src = source;
  };

  const fill = (pair, row, variant) => {
    const [before, after] = [pair.querySelector(".before"), pair.querySelector(".after")];
    const slider = pair.querySelector("input");
    const nothing = pair.querySelector(".nothing");
    const result = row.after?.[variant];
    const settle = () => {
      const both = !before.hidden && !after.hidden;
      pair.classList.toggle("both", both);
      pair.classList.toggle("lonely", !before.hidden && after.hidden);
      slider.hidden = !both;
      nothing.hidden = !before.hidden || !after.hidden;
      nothing.textContent = row.status === "saved" ? "The image is no longer where it was saved." : "No image";
    };
    const gone = (image) => () => { image.hidden = true; settle(); };
    if (row.before) put(before, row.before, `Before: ${row.name}`, gone(before));
    if (result) put(after, result, `After: ${row.prompt}`, gone(after));
    slider.setAttribute("aria-label", `Compare before and after of ${row.name}`);
    slide(pair, slider);
    settle();
    pair.querySelector(".enlarge").hidden = !row.before && !result;
  };

  const enlarge = (row, variant) => {
    const pair = $("card").content.querySelector(".pair").cloneNode(true);
    fill(pair, row, variant);
    pair.querySelector(".enlarge").remove();
    pair.querySelector(".variants").remove();
    $("stage").replaceChildren(pair);
    $("caption").textContent = `${row.name} · ${row.prompt}`;
    $("large").showModal();
  };

  const card = (row) => {
    const article = $("card").content.firstElementChild.cloneNode(true);
    const at = (selector) => article.querySelector(selector);
    let variant = 0;
    fill(at(".pair"), row, variant);
    at(".enlarge").setAttribute("aria-label", `Enlarge ${row.name}`);
    at(".enlarge").addEventListener("click", () => enlarge(row, variant));
    if (row.after?.length > 1) {
      at(".variants").hidden = false;
      row.after.forEach((_, number) => {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = String(number + 1);
        button.setAttribute("aria-label", `Variant ${number + 1}`);
        button.setAttribute("aria-pressed", String(number === 0));
        button.addEventListener("click", () => {
          variant = number;
          fill(at(".pair"), row, variant);
          for (const other of at(".variants").children) other.setAttribute("aria-pressed", String(other === button));
        });
        at(".variants").append(button);
      });
    }
    if (row.link) {
      const link = document.createElement("a");
      link.href = row.link;
      link.rel = "noreferrer noopener";
      link.textContent = row.name;
      at("h3").append(link);
    } else {
      at("h3").textContent = row.name;
    }
    at("h3").title = row.source ?? "";
    at(".status").textContent = WORDS[row.status];
    at(".status").classList.add(row.status);
    at(".prompt").textContent = row.prompt;
    if (row.error) {
      at(".error").hidden = false;
      at(".error").textContent = row.error;
      at(".error").classList.add(row.status);
    }
    at(".small").textContent = [
      row.seconds == null ? null : duration(row.seconds),
      row.cost == null ? null : dollars(row.cost),
    ].filter(Boolean).join(" · ");
    at(".tiny").textContent = at(".tiny").title = [row.model, row.task ?? row.id].filter(Boolean).join(" · ");
    return article;
  };

  const show = (number) => {
    const pages = Math.max(1, Math.ceil(found.length / PER_PAGE));
    page = Math.min(Math.max(0, number), pages - 1);
    const first = page * PER_PAGE;
    const shown = found.slice(first, first + PER_PAGE);
    $("grid").replaceChildren(...shown.map(card));
    $("found").textContent = found.length === 0 ? "No job is like that."
      : pages === 1 ? `${found.length.toLocaleString("en")} ${found.length === 1 ? "job" : "jobs"}`
      : `${(first + 1).toLocaleString("en")}–${(first + shown.length).toLocaleString("en")} of ${found.length.toLocaleString("en")} jobs`;
    $("pages").hidden = pages === 1;
    $("previous").disabled = page === 0;
    $("next").disabled = page === pages - 1;
    if ($("page").length !== pages) {
      $("page").replaceChildren(...Array.from({ length: pages }, (_, index) => new Option(`Page ${index + 1} of ${pages}`, index)));
    }
    $("page").value = String(page);
  };

  const turn = (number) => {
    show(number);
    $("jobs").scrollIntoView();
  };

  let typing;
  $("search").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(select, 120); });
  $("tools").addEventListener("submit", (event) => { event.preventDefault(); select(); });
  $("tools").addEventListener("change", (event) => { if (event.target.id !== "search") select(); });
  $("previous").addEventListener("click", () => turn(page - 1));
  $("next").addEventListener("click", () => turn(page + 1));
  $("page").addEventListener("change", () => turn(Number($("page").value)));
  $("close").addEventListener("click", () => $("large").close());
  $("large").addEventListener("click", (event) => { if (event.target === $("large")) $("large").close(); });
  select();
})();
