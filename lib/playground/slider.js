function render({ model, el }) {
  const label = document.createElement("label");
  const slider = Object.assign(document.createElement("input"), { type: "range" });
  const shown = document.createElement("span");
  for (const key of ["min", "max", "step", "value"]) slider[key] = model.get(key);
  const show = () => { shown.textContent = slider.value; };
  slider.addEventListener("input", show);
  slider.addEventListener("change", () => { model.set("value", Number(slider.value)); model.save_changes(); });
  model.on("change:value", () => { slider.value = model.get("value"); show(); });
  shown.setAttribute("aria-hidden", "true");
  label.className = "slider";
  label.append(model.get("label"), slider, shown);
  el.append(label);
  show();
}
export default { render };
