// The official TypeScript clients, both of them, over HTTP+SSE (2024-11-05) to sessile: server requests of two sessions at once,
// what is left when a client closes, and what a client is told whose session has ended behind its back.
//
//   node sse_clients.mjs [--sessile PATH]
//
// That all of a walk through server-everything is the same over this front as without sessile is everything.mjs's part.

import { alive, askerJs, check, defaultSessile, describe, options, peer, run, serve, sleep, statOf, until, within } from './lib.mjs';

const opts = options({ values: { sessile: defaultSessile } });

/** `@modelcontextprotocol/sdk` 1.x and `@modelcontextprotocol/client` 2.x. */
function libraries() {
  const { Client } = peer('@modelcontextprotocol/sdk/client/index.js');
  const { SSEClientTransport } = peer('@modelcontextprotocol/sdk/client/sse.js');
  const { StreamableHTTPClientTransport } = peer('@modelcontextprotocol/sdk/client/streamableHttp.js');
  const types = peer('@modelcontextprotocol/sdk/types.js');
  const two = peer('@modelcontextprotocol/client');
  return [
    {
      name: 'sdk 1',
      Client,
      Sse: SSEClientTransport,
      Streamable: StreamableHTTPClientTransport,
      answer: (client, answer) => client.setRequestHandler(types.ElicitRequestSchema, answer),
    },
    {
      name: 'client 2',
      Client: two.Client,
      Sse: two.SSEClientTransport,
      Streamable: two.StreamableHTTPClientTransport,
      answer: (client, answer) => client.setRequestHandler('elicitation/create', answer),
    },
  ];
}

async function connect(library, url, who) {
  const client = new library.Client({ name: `sse-${who}`, version: '1' }, { capabilities: { elicitation: { form: {} } } });
  const asked = [];
  library.answer(client, async ({ params }) => {
    asked.push(params.message);
    return { action: 'accept', content: { answer: who } };
  });
  const transport = new library.Sse(new URL(url));
  const complaints = [];
  client.onerror = (error) => complaints.push(error.message);
  await within(15_000, 'the handshake', client.connect(transport));
  const tool = async (name, args = {}) => JSON.parse((await client.callTool({ name, arguments: args })).content[0].text);
  return { client, transport, tool, asked, complaints };
}

const gone = (pid) => until(8000, () => !statOf(pid) || statOf(pid).state === 'Z');

async function walk(library, proxy, url) {
  const label = library.name;
  const [one, two] = await Promise.all(['one', 'two'].map((who) => connect(library, url, who)));
  const pids = [(await one.tool('whoami')).pid, (await two.tool('whoami')).pid];
  check(`${label}: each has a server of its own`, pids[0] !== pids[1], pids.join());
  check(`${label}: and keeps it`, (await one.tool('whoami')).pid === pids[0]);
  check(`${label}: tools`, (await one.client.listTools()).tools.some((tool) => tool.name === 'ask'));

  const nonces = Array.from({ length: 20 }, (_, i) => i);
  const ask = ({ tool }, who) => Promise.all(nonces.map(async (i) => (await tool('ask', { kind: 'elicit', nonce: `${who}-${i}` })).content?.answer));
  const [first, second] = await Promise.all([ask(one, 'one'), ask(two, 'two')]);
  check(`${label}: server requests of both at once are answered by their own client`, first.every((said) => said === 'one') && second.every((said) => said === 'two'), `${first} ${second}`);
  const astray = [...one.asked.filter((text) => !text.includes('one-')), ...two.asked.filter((text) => !text.includes('two-'))];
  check(`${label}: each was asked its own only`, one.asked.length === 20 && two.asked.length === 20 && astray.length === 0, astray.join('\n'));
  await one.tool('ask', { kind: 'later', nonce: 'one-later' });
  check(`${label}: a server request that belongs to no call`, (await one.tool('collect', { nonce: 'one-later' })).content?.answer === 'one');
  check(`${label}: nothing to complain of`, one.complaints.length + two.complaints.length === 0, () => [...one.complaints, ...two.complaints].join('\n'));

  await one.client.close();
  check(`${label}: a client that closes takes its server along`, await gone(pids[0]));
  check(`${label}: and nobody else's`, (await two.tool('whoami')).pid === pids[1]);

  // Its server dies, and with it the session. The event source comes back by itself, to a session that was never opened: the
  // client must not take that for the one it had.
  process.kill(pids[1], 'SIGKILL');
  const dead = await two.tool('whoami').then((got) => `answered by ${got.pid}`, (error) => error.message);
  check(`${label}: a session that ended is told`, !/^answered/.test(dead), dead);
  await until(8000, () => two.complaints.length > 0);
  await sleep(4000);
  const later = await two.tool('whoami').then((got) => `answered by ${got.pid}`, (error) => error.message);
  check(`${label}: and is not quietly begun anew`, /state is lost|404|not found|Not connected/i.test(later), later);
  await two.client.close();
  check(`${label}: nothing is left`, await until(8000, () => alive(proxy.tree()).length === 0), () => describe(proxy.tree()));
}

run('sse_clients', 120, async () => {
  const proxy = await serve({ sessile: opts.sessile, command: [process.execPath, askerJs] });
  const url = proxy.url.replace(/mcp$/, 'sse');
  for (const library of libraries()) {
    await walk(library, proxy, url);
    // What clients do that know both transports: the newer one first, and on 4xx the older one.
    const transport = new library.Streamable(new URL(url));
    const client = new library.Client({ name: 'fallback', version: '1' });
    const error = await client.connect(transport).then(() => null, (error) => error);
    check(`${library.name}: streamable HTTP at the stream's URL is refused with 405`, error && /405/.test(`${error.code} ${error.status} ${error.message}`), () => String(error?.message));
    await client.close();
  }
  const wrong = await fetch(url, { headers: { accept: 'application/json' } });
  check('what takes no events is told so', wrong.status === 406 && (await wrong.text()).includes('text/event-stream'));
  // Neither the log nor a listing has the secret.
  const stream = await fetch(url, { headers: { accept: 'text/event-stream' } });
  const first = new TextDecoder().decode((await stream.body.getReader().read()).value);
  const secret = /session_id=(\w+)/.exec(first)?.[1];
  check('the secret is not in the log', secret?.length === 64 && !proxy.log().includes(secret), first);
  const how = await proxy.stop();
  check('sessile ends well', how.code === 0, JSON.stringify(how));
});
