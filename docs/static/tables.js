// On a phone, a table of texts that is wider than the page becomes a list: a block for each row.
function fitTables() {
  for (const table of document.querySelectorAll("table.docutils")) {
    const heads = [...(table.tHead?.rows[0]?.cells ?? [])].map((cell) => cell.textContent);
    if (heads.length < 3 || heads.length > 5) continue;
    for (const row of table.tBodies[0].rows) {
      [...row.cells].forEach((cell, column) => (cell.dataset.label = heads[column]));
    }
    table.classList.remove("stacked");
    table.classList.toggle("stacked", table.scrollWidth > table.parentElement.clientWidth);
  }
}

addEventListener("DOMContentLoaded", fitTables);
addEventListener("resize", fitTables);
