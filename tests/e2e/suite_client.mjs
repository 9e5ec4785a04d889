// The client that the conformance suite's `client` mode tests: the official TypeScript client, alone or behind sessile.
//
//   node tests/e2e/suite_client.mjs [--sessile PATH] URL
//
// The suite appends the URL of its server and names the scenario in MCP_CONFORMANCE_SCENARIO. With --sessile the client
// connects to `sessile serve URL`, so that the suite's server has sessile for its client. In the scenarios about logging in
// it is sessile that logs in, and a browser is played here: it opens the URL that sessile prints, and goes where it is sent.
// Prints nothing but errors.

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { peer, serve, within } from './lib.mjs';

const { Client } = peer('@modelcontextprotocol/sdk/client/index.js');
const { StreamableHTTPClientTransport } = peer('@modelcontextprotocol/sdk/client/streamableHttp.js');
const { ElicitRequestSchema } = peer('@modelcontextprotocol/sdk/types.js');

const args = process.argv.slice(2);
const at = args.indexOf('--sessile');
const sessile = at < 0 ? undefined : args.splice(at, 2)[1];
const [server] = args;
const scenario = process.env.MCP_CONFORMANCE_SCENARIO ?? '';

function connect(url, capabilities = {}) {
  const client = new Client({ name: 'suite-client', version: '1' }, { capabilities });
  const transport = new StreamableHTTPClientTransport(new URL(url), {
    reconnectionOptions: { initialReconnectionDelay: 1000, maxReconnectionDelay: 10_000, reconnectionDelayGrowFactor: 1.5, maxRetries: 3 },
  });
  return { client, transport };
}

const scenarios = {
  async basic(url) {
    const { client, transport } = connect(url);
    await client.connect(transport);
    const { tools } = await client.listTools();
    if (tools[0]) await client.callTool({ name: tools[0].name, arguments: { a: 2, b: 3 } });
    await transport.close();
  },
  async schema(url) {
    const { client, transport } = connect(url);
    await client.connect(transport);
    const { tools } = await client.listTools();
    const focal = tools.find((tool) => tool.name === 'json_schema_2020_12_tool');
    await client.callTool({ name: 'json_schema_echo', arguments: { schema: focal.inputSchema } });
    await transport.close();
  },
  async elicitation(url) {
    const { client, transport } = connect(url, { elicitation: { form: { applyDefaults: true } } });
    client.setRequestHandler(ElicitRequestSchema, () => ({ action: 'accept', content: {} }));
    await client.connect(transport);
    const { tools } = await client.listTools();
    const tool = tools.find(({ name }) => name === 'test_client_elicitation_defaults') ?? tools[0];
    await client.callTool({ name: tool.name, arguments: {} });
    await transport.close();
  },
  async retry(url) {
    const { client, transport } = connect(url);
    await client.connect(transport);
    await client.listTools();
    await client.callTool({ name: 'test_reconnection', arguments: {} });
    await transport.close();
  },
};
const chosen =
  { 'sse-retry': 'retry', 'elicitation-sep1034-client-defaults': 'elicitation', 'json-schema-2020-12-preservation': 'schema' }[scenario] ?? 'basic';

/** What sessile is told so that it logs in as the scenario has it. */
function login() {
  if (!scenario.startsWith('auth/')) return [];
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sessile-login-'));
  process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }));
  const context = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? '{}');
  const args = ['--oauth', 'login', '--no-browser', '--oauth-token-dir', folder];
  if (!context.client_id) return [...args, '--oauth-client-metadata-url', 'https://conformance-test.local/client-metadata.json'];
  fs.writeFileSync(path.join(folder, 'secret'), context.client_secret);
  return [...args, '--oauth-client-id', context.client_id, '--oauth-client-secret-file', path.join(folder, 'secret')];
}

/** Opens each URL of a login once, as a person's browser would. */
async function browse(log, opened) {
  for (const [url] of log.matchAll(/https?:\/\/\S*response_type=\S*/g)) {
    if (opened.has(url)) continue;
    opened.add(url);
    const back = (await fetch(url, { redirect: 'manual' })).headers.get('location');
    if (back) await fetch(back);
  }
}

const proxy = sessile && (await serve({ sessile, args: [...login(), server] }));
const opened = new Set();
const browser = proxy && setInterval(() => browse(proxy.log(), opened).catch((error) => console.error('the browser:', error)), 50);
let code = 0;
try {
  await within(25_000, scenario, scenarios[chosen](proxy ? proxy.url : server));
} catch (error) {
  console.error(error);
  code = 1;
}
if (proxy) {
  clearInterval(browser);
  await proxy.stop();
  if (code) console.error(proxy.log());
}
process.exit(code);
