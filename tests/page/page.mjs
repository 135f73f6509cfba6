// Opens the page of a portway in Chromium and checks what people get. `run` starts it.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer as listen, connect as dial } from "node:net";
import { createInterface } from "node:readline";
import { connect, createServer } from "node:tls";
import { chromium } from "playwright-core";

const [program, directory, ...options] = process.argv.slice(2);
const pictures = options[0] === "--pictures" ? options[1] : undefined;
const axe = readFileSync(`${directory}/node_modules/axe-core/axe.min.js`, "utf8");
const file = `${directory}/routes.toml`;
const hostile = "<script>document.title='taken'</script>\"'&\u202e\r\n\u001b[2J";
const screens = {
  desk: { width: 1100, height: 860 },
  phone: { width: 390, height: 844 },
  narrow: { width: 320, height: 640 },
};
let failed = 0;
let passed = 0;

async function check(name, attempt) {
  try {
    await attempt();
    passed += 1;
    console.log(`ok      ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}: ${error.message}`);
  }
}

function same(seen, wanted, what) {
  const [one, other] = [JSON.stringify(seen), JSON.stringify(wanted)];
  if (one !== other) throw new Error(`${what}: ${one} instead of ${other}`);
}

// Servers whose certificate expires in six days.
function certificate() {
  execFileSync("openssl", ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "6",
    "-subj", "/CN=fleet.example.com", "-addext", "subjectAltName=DNS:fleet.example.com,DNS:es.example.com",
    "-keyout", `${directory}/key.pem`, "-out", `${directory}/cert.pem`], { stdio: "ignore" });
  return { key: readFileSync(`${directory}/key.pem`), cert: readFileSync(`${directory}/cert.pem`) };
}

async function bound(server) {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return `127.0.0.1:${server.address().port}`;
}

// An address where nobody listens.
async function free() {
  const server = listen();
  const address = await bound(server);
  server.close();
  return address;
}

async function started() {
  const child = spawn(program, ["run", "--config", file], { stdio: ["ignore", "ignore", "pipe"] });
  process.on("exit", () => child.kill("SIGKILL"));
  let [admin, agents] = [undefined, undefined];
  for await (const line of createInterface({ input: child.stderr })) {
    const { message, address } = JSON.parse(line).fields;
    if (message === "admin listening") admin = address;
    if (message === "listening") agents = address;
    if (message === "ready") break;
  }
  child.stderr?.resume();
  return { child, admin, agents: { host: "127.0.0.1", port: Number(agents.split(":")[1]) } };
}

// A hello whose server name has these bytes, with nothing else that TLS asks for.
function hello(name) {
  const bytes = Buffer.from(name, "utf8");
  const word = (value) => Buffer.from([value >> 8, value & 255]);
  const vector = (body) => Buffer.concat([word(body.length), body]);
  const names = vector(vector(Buffer.concat([Buffer.from([0]), vector(bytes)])));
  const extensions = vector(Buffer.concat([word(0), names]));
  const body = Buffer.concat([word(0x303), Buffer.alloc(33), vector(word(0x1301)), Buffer.from([1, 0]), extensions]);
  const message = Buffer.concat([Buffer.from([1, 0]), vector(body)]);
  return Buffer.concat([Buffer.from([22, 3, 1]), vector(message)]);
}

// Sends bytes that portway refuses, and waits for its end.
async function refused(agents, bytes) {
  const socket = dial(agents);
  socket.on("error", () => {});
  socket.write(bytes);
  socket.resume();
  await once(socket, "close");
}

async function troubles(relay) {
  const clients = [];
  for (let number = 0; number < 12; number += 1) {
    const servername = number % 3 ? "fleet.example.com" : "es.example.com";
    const client = connect({ ...relay.agents, servername, rejectUnauthorized: false });
    await once(client, "secureConnect");
    client.write("x".repeat(1000 * (number + 1)));
    clients.push(client);
  }
  await refused(relay.agents, hello("logs.example.com"));
  await refused(relay.agents, "GET /api/status HTTP/1.1\r\nHost: fleet.example.com\r\n\r\n");
  await refused(relay.agents, hello("kibana.example.com"));
  for (let number = 0; number < 3; number += 1) await refused(relay.agents, hello("flet.example.com"));
  const text = readFileSync(file, "utf8");
  writeFileSync(file, text.replace("es.example.com\"]", "es.example.com\"]\nbackends = \"es\""));
  try {
    execFileSync(program, ["reload", "--config", file], { stdio: "ignore" });
    throw new Error("the reload was not refused");
  } catch (error) {
    if (error.status !== 78) throw error;
  }
  return clients;
}

// Waits until a check has seen the certificate.
async function seen(admin) {
  for (;;) {
    const status = await (await fetch(`http://${admin}/status`)).json();
    if (JSON.stringify(status.backends).includes("certificate_expires_soon")) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function opened(browser, relay, scheme, screen, path = "/", settings = {}) {
  const context = await browser.newContext({ colorScheme: scheme, viewport: screens[screen], ...settings });
  const page = await context.newPage();
  const asked = [];
  const said = [];
  page.on("request", (request) => asked.push(request.url()));
  page.on("console", (message) => said.push(message.text()));
  page.on("pageerror", (error) => said.push(error.message));
  await page.goto(`http://${relay.admin}${path}`, { waitUntil: "load" });
  return { page, asked, said };
}

async function looks(browser, relay, scheme, screen) {
  const { page, asked, said } = await opened(browser, relay, scheme, screen);
  await check(`${scheme}, ${screen}: axe-core finds nothing`, async () => {
    await page.evaluate(`for (const one of document.querySelectorAll("details")) one.open = true; ${axe}; undefined`);
    const { violations, passes } = await page.evaluate("axe.run(document, { resultTypes: ['violations'] })");
    const found = violations.map((one) => `${one.id}: ${one.help}: ${one.nodes.slice(0, 3).map((node) => node.html)}`);
    same(found, [], "violations");
    if (passes.length < 20) throw new Error(`only ${passes.length} rules ran`);
  });
  await check(`${scheme}, ${screen}: nothing scrolls sideways`, async () => {
    const widths = await page.evaluate(`(() => {
      const most = document.documentElement.clientWidth;
      const wide = [...document.querySelectorAll("main *")].filter((one) => one.getBoundingClientRect().right > most + 1);
      return [document.documentElement.scrollWidth - most, wide.slice(0, 3).map((one) => one.outerHTML.slice(0, 200))];
    })()`);
    same(widths, [0, []], "what is too wide");
  });
  await check(`${scheme}, ${screen}: one request, and no complaint`, async () => {
    same(asked, [`http://${relay.admin}/`], "requests");
    same(said, [], "console");
    same(await page.title(), "portway", "title");
    same(await page.evaluate("document.scripts.length"), 0, "scripts");
  });
  await page.context().close();
}

// The elements that Tab reaches, in their order, each with a mark of the focus that can be seen.
async function keyboard(browser, relay, screen) {
  const { page } = await opened(browser, relay, "light", screen);
  const wanted = await page.evaluate(`(() => {
    window.all = [...document.querySelectorAll("a[href], input, select, button, summary")].filter((one) => one.checkVisibility());
    return window.all.length;
  })()`);
  const order = [];
  for (let number = 0; number < wanted; number += 1) {
    await page.keyboard.press("Tab");
    // The browser scrolls to it in the next frames.
    const inSight = await page.waitForFunction(`(() => {
      const box = document.activeElement.getBoundingClientRect();
      return box.width > 0 && box.top < innerHeight && box.bottom > 0;
    })()`, undefined, { timeout: 5000 }).catch(() => false);
    const [place, outline, html] = await page.evaluate(`(() => {
      const one = document.activeElement;
      return [window.all.indexOf(one), getComputedStyle(one).outlineStyle, one.outerHTML.slice(0, 100)];
    })()`);
    if (outline === "none") throw new Error(`nothing marks the focus of ${html}`);
    if (!inSight) throw new Error(`${html} has the focus out of sight`);
    order.push(place);
  }
  same(order, [...Array(wanted).keys()], "order of the focus");
  await page.context().close();
}

async function form(browser, relay, settings) {
  const { page } = await opened(browser, relay, "light", "phone", "/", settings);
  await page.getByLabel("Server name").fill("es.example.com");
  await page.keyboard.press("Enter");
  await page.getByText("4 of 4 that match").waitFor({ timeout: 10000 });
  same(new URL(page.url()).searchParams.get("server_name"), "es.example.com", "parameter");
  same(new URL(page.url()).hash, "#connections", "place");
  await page.getByRole("link", { name: "Show all" }).click();
  await page.getByText("12 of 12 that match").waitFor({ timeout: 10000 });
  await page.context().close();
}

async function picture(browser, relay, scheme, screen) {
  const { page } = await opened(browser, relay, scheme, screen);
  await page.screenshot({ path: `${pictures}/${screen}-${scheme}.png` });
  await page.context().close();
}

const server = createServer({ ...certificate(), maxVersion: "TLSv1.2" }, (socket) => {
  socket.on("error", () => {});
  socket.on("data", () => socket.write("y".repeat(5000)));
});
const [fleet, dead] = [await bound(server), await free()];
const health = '{ check = "tls", server_name = "fleet.example.com", interval = "2s", timeout = "2s" }';
writeFileSync(file, `admin.bind = "127.0.0.1:0"
[listeners.agents]
bind = ["127.0.0.1:0"]
[limits]
max_connections = 15
max_pending_connections = 10
[routes.fleet]
server_names = ["fleet.example.com"]
backend = "fleet"
[routes.es]
server_names = ["es.example.com"]
backend = "fleet"
[routes.logs]
server_names = ["logs.example.com", "*.logs.example.com"]
backend = "logs"
[backends.fleet]
endpoints = ["${fleet}"]
health = ${health}
[backends.logs]
endpoints = ["${dead}", "logstash.invalid:5044"]
`);
const relay = await started();
const clients = await troubles(relay);
await seen(relay.admin);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
if (pictures) {
  for (const scheme of ["light", "dark"]) {
    for (const screen of ["desk", "phone"]) await picture(browser, relay, scheme, screen);
  }
}
for (let number = 0; number < 20; number += 1) await refused(relay.agents, hello(`${number}${hostile}`));
for (const scheme of ["light", "dark"]) {
  for (const screen of Object.keys(screens)) await looks(browser, relay, scheme, screen);
}
for (const screen of ["desk", "narrow"]) {
  await check(`${screen}: the keyboard reaches everything in order`, () => keyboard(browser, relay, screen));
}
await check("the form filters", () => form(browser, relay, {}));
await check("the form filters without scripts", () => form(browser, relay, { javaScriptEnabled: false }));
await browser.close();
for (const client of clients) client.destroy();
relay.child.kill("SIGTERM");
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
