// Drives the pages in a headless browser: look.mjs PLAN.json, where the plan is {url, browser, modules, looks}. A look is
// {page, theme, width, …}: shot (a file, of the window, the whole page or an element), axe, wait (ms), click (selectors),
// tabs (how often Tab is pressed), state (an expression). Prints what each look found as JSON.
import {createRequire} from "node:module";
import {readFileSync} from "node:fs";

const plan = JSON.parse(readFileSync(process.argv[2], "utf8"));
const {chromium} = createRequire(`${plan.modules}/`)("playwright-core");
const axe = plan.looks.some(look => look.axe) && readFileSync(`${plan.modules}/axe-core/axe.min.js`, "utf8");
const READY = {"/": "#tokens details, #status.error", "/docs": "#errors"};

async function see(browser, look) {
  const context = await browser.newContext({colorScheme: look.theme, viewport: {width: look.width, height: look.height || 900}});
  await context.grantPermissions(["clipboard-read", "clipboard-write"], {origin: plan.url});
  const page = await context.newPage(), found = {...look, errors: []};
  page.on("pageerror", error => found.errors.push(String(error)));
  page.on("console", said => { if (said.type() === "error") found.errors.push(`${said.text()} ${said.location().url}`); });
  await page.goto(plan.url + look.page, {timeout: 120000});
  const ready = READY[look.page.split("#")[0]];
  if (ready) await page.waitForSelector(ready, {timeout: 120000});
  await page.waitForTimeout(look.wait || 100);
  for (const selector of look.click || []) await page.locator(selector).first().click();
  found.height = await page.evaluate(() => document.documentElement.scrollHeight);
  found.overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  if (look.shot && look.element) await page.locator(look.element).screenshot({path: look.shot, animations: "disabled"});
  else if (look.shot) await page.screenshot({path: look.shot, fullPage: !look.height, animations: "disabled"});
  if (look.axe) {
    await page.evaluate(axe);
    const {violations} = await page.evaluate(() => window.axe.run(document, {resultTypes: ["violations"]}));
    found.axe = violations.map(v => `${v.id}: ${v.nodes.slice(0, 3).map(n => `${n.target} ${n.failureSummary}`).join("; ")}`);
  }
  if (look.tabs) {
    found.tabs = [];
    for (let i = 0; i < look.tabs; i++) {
      await page.keyboard.press("Tab");
      found.tabs.push(await page.evaluate(() => {
        const at = document.activeElement;
        return at.id || at.getAttribute("aria-label") || at.textContent.slice(0, 40);
      }));
    }
  }
  if (look.state) found.state = await page.evaluate(look.state);
  await context.close();
  return found;
}

const browser = await chromium.launch({executablePath: plan.browser, args: ["--no-sandbox"]});
const all = [];
for (const look of plan.looks) all.push(await see(browser, look));
await browser.close();
console.log(JSON.stringify(all, null, 1));
