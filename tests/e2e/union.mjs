// Two servers of a configuration file in one session, for two users at once: @playwright/mcp and server-everything.
//
//   node union.mjs [--sessile PATH] [--rounds 5]
//
// Each user has processes of its own for both servers, and sees the union of what they offer under `{server}_{name}`.
// Each drives its own page in its own browser while it is asked by both servers: Playwright asks for roots on its first
// call, the everything server for sampling, elicitation and roots. No server request and no page goes astray. Then the
// everything server of one user is killed: its tools say so by name, that user's browser and the other user go on.

import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { alive, check, commandOf, defaultSessile, descendants, describe, everythingJs, now, options, peer, playwrightJs, run, serve, until, within } from './lib.mjs';

const { Client } = peer('@modelcontextprotocol/sdk/client/index.js');
const { StreamableHTTPClientTransport } = peer('@modelcontextprotocol/sdk/client/streamableHttp.js');
const types = peer('@modelcontextprotocol/sdk/types.js');

const opts = options({ values: { sessile: defaultSessile, rounds: 5, chromium: '/usr/bin/chromium' } });
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sessile-e2e-'));
process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true, maxRetries: 3 }));

/** As people write it, with a comment, a variable, and settings of sessile's own. */
const config = `{
  // One browser and one of everything for each user.
  "mcpServers": {
    "browser": {
      "command": "\${E2E_NODE:-node}",
      "args": [${[playwrightJs, '--headless', '--isolated', '--no-sandbox', '--executable-path', opts.chromium].map((word) => JSON.stringify(word)).join(', ')}],
      "env": { "E2E_TOKEN": "\${E2E_TOKEN}" },
      "timeout": 60000, "autoApprove": []
    },
    "all": { "type": "stdio", "command": "node", "args": [${JSON.stringify(everythingJs)}, "stdio"],
             "sessile": { "denyTools": ["get-env"] } },
    "off": { "command": "false", "disabled": true },
  },
  "sessile": { "idleTimeout": "10m" },
}
`;

async function pages() {
  const server = http.createServer((request, response) => {
    const [, who, n] = /^\/(\w+)\/(\d+)/.exec(request.url) ?? [];
    response.writeHead(who ? 200 : 404, { 'content-type': 'text/html', 'cache-control': 'no-store' });
    response.end(who ? `<!doctype html><title>page</title><h1>marker-${who}-${n}-end</h1>` : 'nothing here');
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${server.address().port}`;
}

/** The processes that run this server themselves, not its reapers. */
const serversIn = (processes, program) => processes.filter((p) => commandOf(p.pid).includes(program) && /node/.test(commandOf(p.pid).split(' ')[0]));

class User {
  constructor(name) {
    this.name = name;
    this.asked = { roots: 0, sampling: 0, elicitation: 0 };
    this.changed = 0;
    this.client = new Client({ name: `user-${name}`, version: '1' }, { capabilities: { roots: { listChanged: true }, sampling: {}, elicitation: { form: {}, url: {} } } });
    this.client.setRequestHandler(types.ListRootsRequestSchema, () => ({ roots: (this.asked.roots++, [{ uri: `file://${folder}`, name: `root-${name}` }]) }));
    this.client.setRequestHandler(types.CreateMessageRequestSchema, () => (this.asked.sampling++, { role: 'assistant', model: 'none', content: { type: 'text', text: `sampled-by-${name}` } }));
    this.client.setRequestHandler(types.ElicitRequestSchema, () => (this.asked.elicitation++, { action: 'accept', content: { name: `elicited-from-${name}` } }));
    this.client.setNotificationHandler(types.ToolListChangedNotificationSchema, () => void this.changed++);
  }

  async connect(url, pid) {
    const before = new Set(descendants(pid).map((p) => p.pid));
    this.transport = new StreamableHTTPClientTransport(new URL(url));
    await within(40_000, 'initialize', this.client.connect(this.transport));
    this.own = await until(5000, () => {
      const own = descendants(pid).filter((p) => !before.has(p.pid));
      return [playwrightJs, everythingJs].every((program) => serversIn(own, program).length === 1) && own;
    });
    if (!this.own) throw new Error(`not one new process of each server:\n${describe(descendants(pid))}`);
  }

  async tool(name, args = {}) {
    const result = await this.client.callTool({ name, arguments: args }, undefined, { timeout: 60_000 });
    const text = result.content.map((part) => part.text ?? '').join('\n');
    if (result.isError) throw new Error(`${name}: ${text}`);
    return text;
  }

  /** One round with both servers; what went wrong, or null. */
  async round(site, n) {
    const [page, sampled, elicited] = await Promise.all([
      this.tool('browser_browser_navigate', { url: `${site}/${this.name}/${n}` }).then(async (arrived) => `${arrived}\n${await this.tool('browser_browser_snapshot')}`),
      this.tool('all_trigger-sampling-request', { prompt: 'say who you are' }),
      this.tool('all_trigger-elicitation-request'),
    ]);
    if (!page.includes(`marker-${this.name}-${n}-end`)) return `${this.name} ${n}: not its page:\n${page.slice(0, 600)}`;
    if (!sampled.includes(`sampled-by-${this.name}`)) return `${this.name} ${n}: sampled ${sampled}`;
    if (!elicited.includes(`elicited-from-${this.name}`)) return `${this.name} ${n}: elicited ${elicited}`;
    return null;
  }
}

run('union', 240, async () => {
  const site = await pages();
  const file = path.join(folder, 'mcp.json');
  fs.writeFileSync(file, config);
  const proxy = await serve({ sessile: opts.sessile, args: ['--config', file], cwd: folder, env: { E2E_TOKEN: 'hush-hush-token', E2E_NODE: process.execPath, NOT_FOR_SERVERS: 'x' } });
  const [a, b] = [new User('a'), new User('b')];
  await a.connect(proxy.url, proxy.pid);
  await b.connect(proxy.url, proxy.pid);

  const { tools } = await a.client.listTools();
  const names = tools.map((tool) => tool.name);
  check('tools of both servers are listed by their prefixed names', names.includes('browser_browser_navigate') && names.includes('all_echo') && names.every((name) => /^(browser|all)_/.test(name)), names.join(' '));
  check('what is filtered is not listed', !names.includes('all_get-env'), names.join(' '));
  const refused = await a.tool('all_get-env').then((text) => text, (error) => error.message);
  check('nor callable', /unknown tool|not found/i.test(refused), refused);
  check('a disabled server is not there', !names.some((name) => name.startsWith('off')), names.join(' '));
  const capabilities = a.client.getServerCapabilities();
  check('capabilities are united', capabilities.tools && capabilities.prompts && capabilities.resources?.subscribe && capabilities.logging !== undefined, JSON.stringify(capabilities));
  check('instructions are joined', (a.client.getInstructions() ?? '').includes('all'), a.client.getInstructions());
  const { prompts } = await a.client.listPrompts();
  check('prompts are prefixed too', prompts.length > 0 && prompts.every(({ name }) => name.startsWith('all_')), JSON.stringify(prompts.map(({ name }) => name)));
  const { resources } = await a.client.listResources();
  check('resources keep their URIs, and can be read', resources.length > 0 && (await a.client.readResource({ uri: resources[0].uri })).contents[0].uri === resources[0].uri, JSON.stringify(resources[0]));
  const dynamic = await a.client.readResource({ uri: 'demo://resource/dynamic/text/3' });
  check('one that only a template names can be read', JSON.stringify(dynamic).includes('dynamic/text/3'), JSON.stringify(dynamic));

  const pids = [a, b].map((user) => user.own.map((p) => p.pid));
  check('each user has processes of its own for both servers', !pids[0].some((pid) => pids[1].includes(pid)), () => describe(descendants(proxy.pid)));
  const all = serversIn(descendants(proxy.pid), everythingJs);
  const browsers = serversIn(descendants(proxy.pid), playwrightJs);
  check('two of each in all', all.length === 2 && browsers.length === 2, () => describe(descendants(proxy.pid)));

  const wrong = [];
  for (let n = 0; n < opts.rounds; n++) wrong.push(...(await Promise.all([a.round(site, n), b.round(site, n)])).filter(Boolean));
  check(`${opts.rounds} rounds of two users with two servers each, nothing astray`, wrong.length === 0, wrong.slice(0, 3).join('\n'));
  for (const user of [a, b]) {
    check(`${user.name} was asked by both servers`, user.asked.roots >= 2 && user.asked.sampling === opts.rounds && user.asked.elicitation === opts.rounds, JSON.stringify(user.asked));
  }

  // One server of one user dies.
  const victims = all.filter((p) => a.own.some((own) => own.pid === p.pid) && !b.own.some((own) => own.pid === p.pid));
  check('the process to be killed is the first user\'s', victims.length === 1, () => describe(victims));
  process.kill(victims[0].pid, 'SIGKILL');
  await until(5000, () => a.changed > 0);
  const told = await a.tool('all_echo', { message: 'x' }).then((text) => text, (error) => error.message);
  check('its tools say by name that the server is gone', /`?all`?/.test(told) && /signal 9|lost|gone/.test(told), told);
  check('the same user\'s browser goes on', (await a.tool('browser_browser_navigate', { url: `${site}/a/99` })).length > 0);
  check('and so does the other user', !(await b.round(site, 100)));

  const from = now();
  const before = descendants(proxy.pid);
  await a.transport.terminateSession();
  await a.client.close();
  await b.transport.terminateSession();
  await b.client.close();
  const gone = await until(15_000, () => alive(before).length === 0, 100);
  check('after both left nothing of either is left', gone, () => describe(alive(before)));
  console.log(`gone in ${Math.round(now() - from)} ms`);
  check('no secret is in the log', !proxy.log().includes('hush-hush'), proxy.log().slice(0, 500));
  await proxy.stop();
});
