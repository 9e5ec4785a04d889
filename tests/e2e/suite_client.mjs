// The client that the conformance suite's `client` mode tests: the official TypeScript client, alone or behind sessile.
//
//   node tests/e2e/suite_client.mjs [--sessile PATH] URL
//
// The suite appends the URL of its server and names the scenario in MCP_CONFORMANCE_SCENARIO. With --sessile the client
// connects to `sessile serve URL`, so that the suite's server has sessile for its client. Prints nothing but errors.

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

const proxy = sessile && (await serve({ sessile, args: [server] }));
let code = 0;
try {
  await within(25_000, scenario, scenarios[chosen](proxy ? proxy.url : server));
} catch (error) {
  console.error(error);
  code = 1;
}
if (proxy) {
  await proxy.stop();
  if (code) console.error(proxy.log());
}
process.exit(code);
