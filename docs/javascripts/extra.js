// The theme puts wide tables into frames that scroll, some time after the page is there; the keyboard can reach them so.
const letKeyboardReachTables = () => {
  for (const frame of document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])")) {
    frame.tabIndex = 0;
  }
};
new MutationObserver(letKeyboardReachTables).observe(document.body, { childList: true, subtree: true });
letKeyboardReachTables();
// The theme gives the search dialog no name.
document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
