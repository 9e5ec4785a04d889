// Two clients drive their own browsers through one sessile, with @playwright/mcp and chromium.
//
//   node playwright.mjs [--sessile PATH] [--rounds 30] [--no-roots]
//   node playwright.mjs --direct       each client with a server of its own, no proxy (a test of the test)
//
// Thirty rounds, both at once: each navigates to another page of a local server, and each snapshot shows that page and
// never one of the other's. Each session has processes of its own. Client A then leaves with DELETE: nothing of its is
// left while B works on. Then `kill -9` of sessile: nothing is left at all.
//
// A declares roots and B does not: Playwright asks A for them on its first tool call, and the call waits for the answer.

import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { adopt, alive, check, commandOf, defaultSessile, descendants, describe, environmentOf, now, options, peer, playwrightJs, run, serve, statOf, until, within } from './lib.mjs';

const { Client } = peer('@modelcontextprotocol/sdk/client/index.js');
const { StdioClientTransport } = peer('@modelcontextprotocol/sdk/client/stdio.js');
const { StreamableHTTPClientTransport } = peer('@modelcontextprotocol/sdk/client/streamableHttp.js');
const { ListRootsRequestSchema } = peer('@modelcontextprotocol/sdk/types.js');

const opts = options({ values: { sessile: defaultSessile, rounds: 30, chromium: '/usr/bin/chromium' }, flags: ['direct', 'no-roots'] });
const command = [process.execPath, playwrightJs, '--headless', '--isolated', '--no-sandbox', '--executable-path', opts.chromium];

// It writes what it saw into `.playwright-mcp` of the client's first root, or of its own working folder.
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sessile-e2e-'));
process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true, maxRetries: 3 }));

const isServer = (p) => commandOf(p.pid).includes(playwrightJs);
const isBrowser = (p) => /chrom/.test(p.comm) || /chrom/.test(commandOf(p.pid).split(' ')[0]);

/** Pages that differ in all they show; the title names whose they are. */
async function pages() {
  const server = http.createServer((request, response) => {
    const [, who, n] = /^\/(\w+)\/(\d+)/.exec(request.url) ?? [];
    response.writeHead(who ? 200 : 404, { 'content-type': 'text/html', 'cache-control': 'no-store' });
    response.end(who ? `<!doctype html><title>page ${who} ${n}</title><h1>marker-${who}-${n}-end</h1><p>only ${who} comes here</p>` : 'nothing here');
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${server.address().port}`;
}

class Driver {
  constructor(name, other, roots) {
    this.name = name;
    this.other = other;
    this.asked = 0;
    this.seen = new Map(); // every process its session ever had, by pid and start
    this.client = new Client({ name: `driver-${name}`, version: '1' }, { capabilities: roots ? { roots: {} } : {} });
    if (roots) this.client.setRequestHandler(ListRootsRequestSchema, () => ({ roots: (this.asked++, [{ uri: `file://${folder}`, name: 'work' }]) }));
  }

  /** Connects and calls a tool, so that server and browser run; what is new under `pid` is this session's. */
  async connect(url, pid) {
    const before = new Set(descendants(pid).map((p) => p.pid));
    this.transport = url ? new StreamableHTTPClientTransport(new URL(url)) : new StdioClientTransport({ command: command[0], args: command.slice(1), stderr: 'ignore', cwd: folder });
    await within(30_000, 'initialize', this.client.connect(this.transport));
    if (!url) adopt(this.transport._process);
    this.server = descendants(pid).find((p) => isServer(p) && !before.has(p.pid));
    if (!this.server) throw new Error(`no new process of the server under ${pid}:\n${describe(descendants(pid))}`);
    // The top of the session's tree is the child of sessile that the server stands under: a sub-reaper, if it has one.
    this.top = this.server;
    while (this.top.ppid !== pid) this.top = statOf(this.top.ppid);
    this.scratch = environmentOf(this.server.pid).TMPDIR;
  }

  /** Looks at the session's processes, and remembers them. */
  look() {
    const tree = [this.top, ...descendants(this.top.pid)];
    for (const p of tree) this.seen.set(`${p.pid}/${p.start}`, p);
    return tree;
  }

  left() {
    return alive([...this.seen.values()]);
  }

  async tool(name, args) {
    const result = await this.client.callTool({ name, arguments: args }, undefined, { timeout: 60_000 });
    const text = result.content.map((part) => part.text ?? '').join('\n');
    if (result.isError) throw new Error(`${name}: ${text}`);
    return text;
  }

  /** Goes to page `n` of its own; null when the snapshot is right, else what is wrong. */
  async round(site, n) {
    const arrived = await this.tool('browser_navigate', { url: `${site}/${this.name}/${n}` });
    const shown = `${arrived}\n${await this.tool('browser_snapshot', {})}`;
    this.look();
    if (!shown.includes(`marker-${this.name}-${n}-end`)) return `${this.name} ${n}: its page is not in the snapshot:\n${shown.slice(0, 800)}`;
    const strange = [...shown.matchAll(/marker-(\w+)-(\d+)-end/g)].find(([, who, m]) => who !== this.name || Number(m) !== n);
    return strange ? `${this.name} ${n}: saw ${strange[0]}` : null;
  }
}

run('playwright', 60 + opts.rounds * 8, async () => {
  const site = await pages();
  const proxy = opts.direct ? null : await serve({ sessile: opts.sessile, command, cwd: folder });
  const pid = proxy?.pid ?? process.pid;
  const [a, b] = [new Driver('a', 'b', !opts['no-roots']), new Driver('b', 'a', false)];

  let from = now();
  await a.connect(proxy?.url, pid);
  await b.connect(proxy?.url, pid);
  console.log(`both connected in ${Math.round(now() - from)} ms`);
  const first = await Promise.all([a.round(site, 1000), b.round(site, 1000)]);
  check('both see their own first page', first.every((wrong) => !wrong), first.filter(Boolean).join('\n'));
  check('roots were asked of the client that declared them, and of no other', opts['no-roots'] ? !a.asked : a.asked > 0 && !b.asked, `${a.asked} and ${b.asked} times`);

  const trees = [a, b].map((driver) => driver.look());
  check('each session has one server process and a browser', trees.every((tree) => tree.filter(isServer).length === 1 && tree.some(isBrowser)), () => trees.map(describe).join('\n\n'));
  const pids = trees.map((tree) => new Set(tree.map((p) => p.pid)));
  check('and they share none', ![...pids[0]].some((one) => pids[1].has(one)), () => trees.map(describe).join('\n\n'));
  console.log(`${trees.map((tree) => tree.length).join(' and ')} processes`);

  from = now();
  const wrong = [];
  for (let n = 0; n < opts.rounds; n++) wrong.push(...(await Promise.all([a.round(site, n), b.round(site, n)])).filter(Boolean));
  check(`${opts.rounds} rounds of two clients at once, each with its own page only`, wrong.length === 0, wrong.slice(0, 3).join('\n'));
  console.log(`${Math.round((now() - from) / opts.rounds)} ms a round`);

  // A ends its session; B goes on while A's processes go.
  a.look();
  from = now();
  if (proxy) await a.transport.terminateSession();
  await a.client.close();
  let misled = null;
  const gone = await until(15_000, async () => {
    misled ??= await b.round(site, 2000);
    return a.left().length === 0;
  }, 100);
  check('after its end nothing of the first session is left', gone, () => describe(a.left()));
  console.log(`gone in ${Math.round(now() - from)} ms`);
  check('the other session works on', !misled && !(await b.round(site, 2001)), misled);
  if (proxy && a.scratch) check('its scratch folder is gone too', await until(5000, () => !fs.existsSync(a.scratch)), a.scratch);
  if (proxy) check('its scratch folder was its own', a.scratch && a.scratch !== b.scratch && a.scratch !== process.env.TMPDIR, `${a.scratch} and ${b.scratch}`);

  // The proxy dies without a chance to clean up.
  if (proxy) {
    b.look();
    proxy.child.seen.push(...b.seen.values());
    from = now();
    process.kill(proxy.pid, 'SIGKILL');
    const none = await until(15_000, () => b.left().length === 0, 50);
    check('after kill -9 of sessile nothing of the other session is left', none, () => describe(b.left()));
    console.log(`gone in ${Math.round(now() - from)} ms`);
    if (b.scratch) check('nor its scratch folder', await until(5000, () => !fs.existsSync(b.scratch)), b.scratch);
  } else {
    await b.client.close();
    check('nothing of the other session is left', await until(15_000, () => b.left().length === 0), () => describe(b.left()));
  }
});
