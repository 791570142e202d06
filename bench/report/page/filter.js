// Shows the items whose kind is ticked and whose text has every word, and says how many they are.
const form = document.querySelector("form.filter");
const items = [...document.querySelectorAll("[data-kind]")];

function filter() {
  const words = form.elements.text.value.toLowerCase().split(/\s+/);
  const kinds = new Set([...form.querySelectorAll("[name=kind]:checked")].map((box) => box.value));
  for (const item of items) {
    const text = item.dataset.text.toLowerCase();
    item.hidden = !kinds.has(item.dataset.kind) || !words.every((word) => text.includes(word));
  }
  const shown = items.filter((item) => !item.hidden).length;
  form.querySelector("output").textContent = `${shown} of ${items.length} shown`;
  for (const group of document.querySelectorAll("[data-group]"))
    group.hidden = !group.querySelector("[data-kind]:not([hidden])");
}

if (form) {
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  filter();
}
