"use strict";
(() => {
  const PER_PAGE = 48;
  const WORDS = { saved: "Saved", failed: "Failed", in_doubt: "In doubt", unfinished: "Unfinished" };
  const $ = (id) => document.getElementById(id);
  const rows = JSON.parse($("rows").textContent);
  rows.sort((a, b) => (a.number ?? Number.MAX_VALUE) - (b.number ?? Number.MAX_VALUE));
  rows.forEach((row, index) => { row.index = index; });
  const haystacks = new Array(rows.length);
  let found = rows;

  const DEFAULTS = { status: "all", q: "", order: "number", view: "cards", page: 1, job: "", variant: 1 };
  const state = { ...DEFAULTS };

  const haystack = (row) =>
    (haystacks[row.index] ??= [row.name, row.prompt, row.model, row.error, row.id, row.task, row.source]
      .filter(Boolean).join("\n").toLowerCase());

  // --- order ---

  const KEYS = {
    number: (row) => row.index,
    name: (row) => row.name.toLowerCase(),
    status: (row) => Object.keys(WORDS).indexOf(row.status),
    prompt: (row) => row.prompt?.toLowerCase(),
    model: (row) => row.model?.toLowerCase(),
    time: (row) => row.seconds,
    cost: (row) => row.cost,
  };

  const sort = () => {
    const [name, reversed] = [state.order.replace("-", ""), state.order.endsWith("-")];
    if (name === "number") {
      if (reversed) found.reverse();
      return;
    }
    const values = new Array(rows.length);
    for (const row of found) values[row.index] = KEYS[name](row);
    const sign = reversed ? -1 : 1;
    found.sort((one, other) => {
      const [a, b] = [values[one.index], values[other.index]];
      // Jobs without a value come last in both directions.
      if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
      return a < b ? -sign : a > b ? sign : 0;
    });
  };

  const select = () => {
    const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
    found = rows.filter((row) =>
      (state.status === "all" || row.status === state.status) && words.every((word) => haystack(row).includes(word)));
    sort();
  };

  // --- the filter in the URL ---

  const write = () => {
    const parts = new URLSearchParams();
    for (const [name, value] of Object.entries(state)) {
      if (value !== DEFAULTS[name]) parts.set(name, value);
    }
    const hash = parts.size ? `#${parts}` : "";
    if (hash === location.hash) return;
    try {
      history.replaceState(null, "", location.href.split("#", 1)[0] + hash);
    } catch {
      // Some browsers allow a hundred changes in half a minute; the next one has it all.
    }
  };

  const read = () => {
    const parts = new URLSearchParams(location.hash.slice(1));
    Object.assign(state, DEFAULTS);
    for (const name of Object.keys(DEFAULTS)) {
      const value = parts.get(name);
      if (value !== null) state[name] = typeof DEFAULTS[name] === "number" ? Number.parseInt(value, 10) || 1 : value;
    }
    const isStatus = [...document.querySelectorAll("input[name=status]")].some((input) => input.value === state.status);
    if (!isStatus) state.status = DEFAULTS.status;
    if (!Object.hasOwn(KEYS, state.order.replace(/-$/, ""))) state.order = DEFAULTS.order;
    if (!["cards", "table"].includes(state.view)) state.view = DEFAULTS.view;
  };

  const restore = () => {
    read();
    for (const name of ["status", "view"]) {
      for (const input of document.querySelectorAll(`input[name=${name}]`)) input.checked = input.value === state[name];
    }
    $("search").value = state.q;
    select();
    const at = state.job ? found.findIndex((row) => row.id === state.job) : -1;
    if (at < 0) {
      state.job = "";
      $("large").close();
      show();
    } else {
      state.page = Math.floor(at / PER_PAGE) + 1;
      show();
      enlarge(at, state.variant - 1);
    }
  };

  // --- texts and links ---

  const duration = (seconds) => {
    if (seconds < 60) return `${seconds.toFixed(1)} s`;
    const whole = Math.round(seconds);
    return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")} min`;
  };
  const dollars = (cost) => `$${cost.toFixed(4).replace(/(\.\d\d\d*?)0+$/, "$1")}`;
  const count = (number) => number.toLocaleString("en");

  const link = (address, text) => {
    const made = document.createElement("a");
    made.href = address;
    made.rel = "noreferrer noopener";
    made.textContent = text;
    return made;
  };

  // Other ids are digests, which nobody has to read.
  const givenId = (row) => (/^[0-9a-f]{32}/.test(row.id) ? null : row.id);

  const links = (row) => {
    const original = row.link ?? (row.before?.startsWith("data:") ? undefined : row.before);
    const results = row.after ?? [];
    return [
      ...(original ? [link(original, "Original")] : []),
      ...results.map((address, number) => link(address, results.length > 1 ? `Result ${number + 1}` : "Result")),
    ];
  };

  // --- pictures ---

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
  };

  const variants = (group, row, chosen, choose) => {
    const results = row.after ?? [];
    group.hidden = results.length < 2;
    const buttons = results.map((_, number) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = String(number + 1);
      button.setAttribute("aria-label", `Variant ${number + 1}`);
      button.setAttribute("aria-pressed", String(number === chosen));
      button.addEventListener("click", () => {
        for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
        choose(number);
      });
      return button;
    });
    group.replaceChildren(...buttons);
  };

  // --- the large view ---

  let large = 0;

  const enlarge = (at, variant) => {
    const row = found[at];
    const pair = $("card").content.querySelector(".pair").cloneNode(true);
    large = at;
    variant = Math.min(Math.max(0, variant), Math.max(0, (row.after?.length ?? 0) - 1));
    fill(pair, row, variant);
    variants(pair.querySelector(".variants"), row, variant, (number) => {
      fill(pair, row, number);
      state.variant = number + 1;
      write();
    });
    pair.querySelector(".enlarge").remove();
    $("stage").replaceChildren(pair);
    $("place").textContent = `${count(at + 1)} of ${count(found.length)}`;
    $("caption").textContent = [row.name, givenId(row), row.prompt, row.error].filter(Boolean).join(" · ");
    $("files").replaceChildren(...links(row));
    for (const [id, is] of [["before", at > 0], ["after", at < found.length - 1]]) {
      $(`large-${id}`).setAttribute("aria-disabled", String(!is));
    }
    Object.assign(state, { job: row.id, variant: variant + 1 });
    write();
    if (!$("large").open) {
      $("large").showModal();
      $("large").focus();
    }
  };

  const step = (by) => {
    if (found[large + by]) enlarge(large + by, 0);
  };

  const closed = () => {
    if (!state.job) return;
    Object.assign(state, { job: "", variant: 1 });
    const page = Math.floor(large / PER_PAGE) + 1;
    if (page !== state.page) {
      state.page = page;
      show();
    }
    write();
    const opener = document.querySelectorAll("#grid > .card, #grid tbody tr")[large % PER_PAGE]?.querySelector(".enlarge, .open");
    opener?.focus({ focusVisible: false });
    opener?.scrollIntoView({ block: "nearest" });
  };

  // --- cards and table ---

  const card = (row, at) => {
    const article = $("card").content.firstElementChild.cloneNode(true);
    const part = (selector) => article.querySelector(selector);
    let variant = 0;
    fill(part(".pair"), row, variant);
    part(".enlarge").hidden = !row.before && !row.after;
    part(".enlarge").setAttribute("aria-label", `Enlarge ${row.name}`);
    part(".enlarge").addEventListener("click", () => enlarge(at, variant));
    variants(part(".variants"), row, variant, (number) => {
      variant = number;
      fill(part(".pair"), row, number);
    });
    part("h3").textContent = row.name;
    part("h3").title = row.source ?? "";
    part(".status").textContent = WORDS[row.status];
    part(".status").classList.add(row.status);
    part(".prompt").textContent = row.prompt;
    if (row.error) {
      part(".error").hidden = false;
      part(".error").textContent = row.error;
      part(".error").classList.add(row.status);
    }
    part(".small").textContent = [
      row.number == null ? null : `#${count(row.number)}`,
      givenId(row),
      row.seconds == null ? null : duration(row.seconds),
      row.cost == null ? null : dollars(row.cost),
    ].filter(Boolean).join(" · ");
    part(".files").replaceChildren(...links(row));
    part(".tiny").textContent = part(".tiny").title = [row.model, row.task ?? row.id].filter(Boolean).join(" · ");
    return article;
  };

  const line = (row, at) => {
    const made = $("line").content.firstElementChild.cloneNode(true);
    const part = (selector) => made.querySelector(selector);
    part(".number").textContent = count(row.number ?? row.index + 1);
    part(".open").textContent = row.name;
    part(".open").title = row.source ?? "";
    part(".open").addEventListener("click", () => enlarge(at, 0));
    part(".status").textContent = WORDS[row.status];
    part(".status").classList.add(row.status);
    part(".text").textContent = part(".text").title = row.error ?? row.prompt ?? "";
    part(".model").textContent = row.model ?? "";
    part(".time").textContent = row.seconds == null ? "" : duration(row.seconds);
    part(".cost").textContent = row.cost == null ? "" : dollars(row.cost);
    part(".files").replaceChildren(...links(row));
    return made;
  };

  const table = (shown, first) => {
    const made = $("table").content.firstElementChild.cloneNode(true);
    for (const button of made.querySelectorAll("th button")) {
      const name = button.value;
      const direction = { [name]: "ascending", [`${name}-`]: "descending" }[state.order];
      if (direction) button.closest("th").setAttribute("aria-sort", direction);
      button.addEventListener("click", () => {
        reorder(state.order === name ? `${name}-` : name);
        document.querySelector(`th button[value=${name}]`).focus();
      });
    }
    made.querySelector("tbody").replaceChildren(...shown.map((row, index) => line(row, first + index)));
    return [made];
  };

  const show = () => {
    const pages = Math.max(1, Math.ceil(found.length / PER_PAGE));
    state.page = Math.min(Math.max(1, state.page), pages);
    const first = (state.page - 1) * PER_PAGE;
    const shown = found.slice(first, first + PER_PAGE);
    $("grid").className = state.view === "table" ? "" : "grid";
    $("grid").replaceChildren(
      ...(state.view === "table" ? table(shown, first) : shown.map((row, index) => card(row, first + index))));
    $("found").textContent = found.length === 0 ? "No job is like that."
      : pages === 1 ? `${count(found.length)} ${found.length === 1 ? "job" : "jobs"}`
      : `${count(first + 1)}–${count(first + shown.length)} of ${count(found.length)} jobs`;
    $("pages").hidden = pages === 1;
    $("previous").disabled = state.page === 1;
    $("next").disabled = state.page === pages;
    if ($("page").length !== pages) {
      $("page").replaceChildren(...Array.from({ length: pages }, (_, index) => new Option(`Page ${index + 1} of ${pages}`, index + 1)));
    }
    $("page").value = String(state.page);
    $("order").value = state.order;
    write();
  };

  const reselect = () => {
    Object.assign(state, {
      status: document.querySelector("input[name=status]:checked").value,
      q: $("search").value.trim(),
      page: 1,
    });
    select();
    show();
  };

  const reorder = (order) => {
    Object.assign(state, { order, page: 1 });
    select();
    show();
  };

  const turn = (page) => {
    state.page = page;
    show();
    $("jobs").scrollIntoView();
  };

  let typing;
  $("search").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(reselect, 120); });
  $("tools").addEventListener("submit", (event) => { event.preventDefault(); reselect(); });
  $("tools").addEventListener("change", (event) => {
    if (event.target.id === "order") reorder(event.target.value);
    else if (event.target.name === "status") reselect();
    else if (event.target.name === "view") {
      state.view = event.target.value;
      show();
    }
  });
  $("previous").addEventListener("click", () => turn(state.page - 1));
  $("next").addEventListener("click", () => turn(state.page + 1));
  $("page").addEventListener("change", () => turn(Number($("page").value)));
  $("close").addEventListener("click", () => $("large").close());
  $("large-before").addEventListener("click", () => step(-1));
  $("large-after").addEventListener("click", () => step(1));
  $("large").addEventListener("click", (event) => { if (event.target === $("large")) $("large").close(); });
  $("large").addEventListener("close", closed);
  $("large").addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    // The slider has the arrow keys once it is focused by the keyboard.
    if (!by || event.altKey || event.ctrlKey || event.metaKey || event.target.matches("input:focus-visible")) return;
    event.preventDefault();
    step(by);
  });
  window.addEventListener("hashchange", () => {
    // The link to the images is no filter.
    if (location.hash === "#jobs") write();
    else restore();
  });
  restore();
})();
