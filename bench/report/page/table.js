// Sorts the table by a heading: up, down, and back to the worst first. Opens the details of a case.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const original = [...table.tBodies];
  const headings = [...table.tHead.rows[0].cells];

  function sort(column) {
    const heading = headings[column];
    const next = { null: "ascending", ascending: "descending", descending: null }[heading.getAttribute("aria-sort")];
    for (const other of headings) other.removeAttribute("aria-sort");
    if (next) heading.setAttribute("aria-sort", next);
    const sign = next === "descending" ? -1 : 1;
    const value = (body) => body.rows[0].cells[column].dataset.value;
    const compare = heading.dataset.sort === "text"
      ? (a, b) => a.localeCompare(b, "en", { numeric: true })
      : (a, b) => a - b;
    const known = original.filter((body) => value(body) !== "");
    const unknown = original.filter((body) => value(body) === "");  // last, whichever the direction
    if (next) known.sort((a, b) => sign * compare(value(a), value(b)));
    table.append(...(next ? [...known, ...unknown] : original));
  }

  headings.forEach((heading, column) => {
    const button = heading.querySelector("button");
    if (!button) return;
    button.disabled = false;
    button.addEventListener("click", () => sort(column));
  });
}

for (const button of document.querySelectorAll("button.toggle")) {
  const details = document.getElementById(button.getAttribute("aria-controls"));
  const open = (wanted) => {
    details.hidden = !wanted;
    button.setAttribute("aria-expanded", String(wanted));
  };
  button.disabled = false;
  button.addEventListener("click", () => open(details.hidden));
  open(false);
}
