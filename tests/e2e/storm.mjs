// 64 clients ask their own servers to send them requests, all at once, for a minute: elicitation, sampling, roots,
// elicitation by url with its completion notification, and requests outside of any call. Not one request or answer may go
// astray: each client has a secret, every nonce is made of it, and everything that reaches a client must bear its own.
//
//   node storm.mjs [--sessile PATH] [--seconds 60] [--clients 64] [--window 8]
//   node storm.mjs --direct ...        each client with a child of its own, no proxy
//   node storm.mjs --direct --cross    two clients' servers are swapped in flight: this must fail (a test of the test)
//
// Every second client never opens a GET stream.

import { randomBytes } from 'node:crypto';
import { askerJs, check, defaultSessile, HttpClient, now, options, quantile, run, serve, sleep, StdioClient } from './lib.mjs';

const opts = options({ values: { sessile: defaultSessile, seconds: 60, clients: 64, window: 8 }, flags: ['direct', 'cross'] });
const command = [process.execPath, askerJs];

const tally = { serverRequests: 0, answers: 0, notifications: 0, astray: [], errors: [], times: [] };
const astray = (what) => tally.astray.push(what);

class Participant {
  constructor(number, url) {
    this.number = number;
    this.secret = `c${number}x${randomBytes(8).toString('hex')}`;
    this.open = new Map(); // nonce -> {kind, asked, completed}
    this.get = number % 2 === 0;
    const shared = {
      capabilities: { roots: {}, sampling: {}, elicitation: { form: {}, url: {} } },
      clientInfo: { name: `storm-${number}`, version: '1' },
      onRequest: (request) => this.answer(request),
      onNotification: (notification) => this.onNotification(notification),
    };
    this.mcp = url ? new HttpClient(url, { get: this.get, ...shared }) : new StdioClient(command, shared);
    this.mcp.fail = (error) => tally.errors.push(`client ${number}: its answer was refused: ${error.message}`);
    this.kinds = ['elicit', 'sample', 'roots', 'url', ...(this.get || !url ? ['later'] : [])];
  }

  /** Our own nonce in what was received, or null: then it is somebody else's, or nobody's. */
  mine(value, what) {
    const nonce = /c\d+x[0-9a-f]{16}-\d+/.exec(JSON.stringify(value))?.[0];
    if (nonce?.startsWith(`${this.secret}-`) && this.open.has(nonce)) return nonce;
    astray(`client ${this.number} got ${what} of ${nonce}: ${JSON.stringify(value).slice(0, 200)}`);
    return null;
  }

  answer(request) {
    tally.serverRequests++;
    const nonce = this.mine(request.params, request.method);
    const expected = { elicit: 'elicitation/create', later: 'elicitation/create', url: 'elicitation/create', sample: 'sampling/createMessage', roots: 'roots/list' };
    const call = this.open.get(nonce);
    if (call) {
      call.asked++;
      if (expected[call.kind] !== request.method) astray(`client ${this.number}: ${request.method} for a call of kind ${call.kind}`);
    }
    const reply = `${this.secret}/${nonce}`;
    if (request.method === 'roots/list') return { roots: [{ uri: `file:///${reply}` }] };
    if (request.method === 'sampling/createMessage') return { role: 'assistant', model: 'none', content: { type: 'text', text: reply } };
    return request.params.mode === 'url' ? { action: 'accept', _meta: { reply } } : { action: 'accept', content: { answer: reply } };
  }

  onNotification(notification) {
    if (notification.method !== 'notifications/elicitation/complete') return;
    tally.notifications++;
    const call = this.open.get(this.mine(notification.params, 'a completion notification'));
    if (call) call.completed++;
  }

  async once(serial) {
    const kind = this.kinds[serial % this.kinds.length];
    const nonce = `${this.secret}-${serial}`;
    const call = { kind, asked: 0, completed: 0 };
    this.open.set(nonce, call);
    const from = now();
    try {
      let result = await this.mcp.call('tools/call', { name: 'ask', arguments: { kind, nonce } });
      if (kind === 'later') result = await this.mcp.call('tools/call', { name: 'collect', arguments: { nonce } });
      tally.answers++;
      tally.times.push(now() - from);
      if (!result.content[0].text.includes(`${this.secret}/${nonce}`)) astray(`client ${this.number}: the answer to ${nonce} (${kind}) is ${result.content[0].text.slice(0, 200)}`);
      if (call.asked !== 1) astray(`client ${this.number}: ${nonce} (${kind}) was asked ${call.asked} times`);
      // The notification may take another stream than the answer, so it has a while.
      if (kind === 'url') {
        for (let i = 0; i < 100 && !call.completed; i++) await sleep(50);
        if (call.completed !== 1) astray(`client ${this.number}: ${call.completed} completion notifications for ${nonce}`);
      }
    } catch (error) {
      tally.errors.push(`client ${this.number}: ${kind} ${nonce}: ${error.message}`);
    } finally {
      this.open.delete(nonce);
    }
  }

  async storm(end) {
    let serial = 0;
    const lane = async () => {
      while (now() < end) await this.once(serial++);
    };
    await Promise.all(Array.from({ length: opts.window }, lane));
  }
}

run('storm', opts.seconds + 150, async () => {
  const proxy = opts.direct ? null : await serve({ sessile: opts.sessile, args: ['--max-sessions', String(opts.clients + 8)], command });
  const clients = Array.from({ length: opts.clients }, (_, i) => new Participant(i, proxy?.url));
  if (opts.cross) {
    const [a, b] = [clients[0].mcp, clients[1].mcp];
    const answer = [a.answer.bind(a), b.answer.bind(b)];
    a.answer = (request) => (request.id.endsWith('7') ? answer[1] : answer[0])(request);
  }
  const from = now();
  await Promise.all(clients.map((c) => c.mcp.open()));
  console.log(`${clients.length} clients connected in ${Math.round(now() - from)} ms`);

  const pids = await Promise.all(clients.map(async (c) => JSON.parse((await c.mcp.call('tools/call', { name: 'whoami' })).content[0].text).pid));
  check('every client has a server process of its own', new Set(pids).size === clients.length, `${new Set(pids).size} processes for ${clients.length} clients`);

  const end = now() + opts.seconds * 1000;
  await Promise.all(clients.map((c) => c.storm(end)));
  const strays = clients.reduce((sum, c) => sum + c.mcp.strays, 0);
  const rate = Math.round(tally.answers / opts.seconds);
  console.log(`${tally.serverRequests} server requests, ${tally.answers} answers, ${tally.notifications} notifications (${rate} answers/s, p50 ${quantile(tally.times, 0.5).toFixed(0)} ms, p99 ${quantile(tally.times, 0.99).toFixed(0)} ms)`);

  const first = (list) => list.slice(0, 8).join('\n');
  check('no server request, answer or notification went astray', tally.astray.length === 0, () => `${tally.astray.length} did:\n${first(tally.astray)}`);
  check('no client got an answer to what it had not asked', strays === 0, `${strays} did`);
  check('no call failed', tally.errors.length === 0, () => `${tally.errors.length} did:\n${first(tally.errors)}`);
  check('it was a storm', tally.answers > opts.clients * opts.window, `only ${tally.answers} answers`);
  await Promise.all(clients.map((c) => c.mcp.close()));
  if (proxy) check('sessile still runs', proxy.child.exitCode === null, proxy.log);
});
