// Airflow shows these pages in a sandboxed frame that may not lead its parent elsewhere. A link to a page of Airflow's own
// (data-airflow) is therefore followed by the parent itself.
document.addEventListener("click", function (event) {
  const link = event.target.closest("a[data-airflow]");
  if (!link || window.parent === window || event.ctrlKey || event.metaKey || event.button !== 0) return;
  event.preventDefault();
  const outside = window.parent.document.createElement("a");
  outside.href = link.href;
  outside.click();
});
