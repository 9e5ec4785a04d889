// What is left behind when sessions end: nothing. A thousand sessions are opened and ended, 16 at a time; then clients
// vanish while their backend still starts. After each, processes, file descriptors, threads and memory of sessile must
// be back where they were after a warm-up.
//
//   node leaks.mjs [--sessile PATH] [--sessions 1000] [--vanishing 200] [--warm-up 200] [--width 16]
//
// The backend is tiny.sh, and each of its processes leaves a grandchild behind that has a session of its own: also that
// must be gone.

import { allProcesses, check, defaultSessile, describe, descendants, environmentOf, HttpClient, now, options, pool, run, serve, sleep, tinySh, until, usage } from './lib.mjs';

const opts = options({ values: { sessile: defaultSessile, sessions: 1000, vanishing: 200, 'warm-up': 200, width: 16 } });
const count = (n) => Array.from({ length: n }, (_, i) => i);

/** One session from its opening to its DELETE. */
async function session(url, i, failures) {
  const client = new HttpClient(url, { get: i % 3 === 0 });
  try {
    await client.open();
    if (!(await client.call('tools/call', { name: 'pid' })).content[0].text) throw new Error('no answer');
    const status = await client.close();
    if (status >= 300) throw new Error(`DELETE: ${status}`);
  } catch (error) {
    failures.push(`session ${i}: ${error.message}`);
    client.vanish();
  }
}

/** Waits until sessile has no more processes, fds and threads than `before`; what it has then. */
async function settled(pid, before, ms) {
  const look = () => ({ ...usage(pid), processes: descendants(pid).length });
  await until(ms, () => {
    const is = look();
    return is.processes <= before.processes && is.fds <= before.fds && is.threads <= before.threads;
  }, 200);
  return look();
}

const show = (u) => `${u.processes} processes, ${u.fds} fds, ${u.threads} threads, ${u.rss} KB`;

function compare(name, before, after, slack, pid) {
  console.log(`${name}: before ${show(before)}; after ${show(after)}`);
  check(`${name}: processes`, after.processes <= before.processes, () => describe(descendants(pid)));
  check(`${name}: file descriptors`, after.fds <= before.fds, `${before.fds}, then ${after.fds}`);
  check(`${name}: threads`, after.threads <= before.threads, `${before.threads}, then ${after.threads}`);
  check(`${name}: memory`, after.rss <= before.rss + slack, `${before.rss} KB, then ${after.rss} KB: more than ${slack} KB more`);
}

run('leaks', 120 + (opts.sessions + opts.vanishing) / 3, async () => {
  // Processes that left sessile's tree are not its descendants any more: they are known by a mark in their environment.
  const mark = `leaks-${process.pid}-${Date.now()}`;
  const proxies = [];
  const marked = () => allProcesses().filter((p) => p.state !== 'Z' && !proxies.includes(p.pid) && environmentOf(p.pid).E2E_MARK === mark);
  const escaped = () => until(8000, () => marked().length === 0, 200);
  process.on('exit', () => {
    for (const p of marked()) process.kill(p.pid, 'SIGKILL');
  });
  const start = async (delay) => {
    const one = await serve({ sessile: opts.sessile, args: ['--max-sessions', '4096'], command: ['/bin/sh', tinySh, delay, 'detached'], env: { E2E_MARK: mark } });
    proxies.push(one.pid);
    return one;
  };

  const proxy = await start('0');
  const failures = [];
  const idle = { ...usage(proxy.pid), processes: descendants(proxy.pid).length };
  await pool(opts.width, count(opts['warm-up']), (i) => session(proxy.url, i, failures));
  const warm = await settled(proxy.pid, idle, 15_000);
  // Threads and their stacks may have been made lazily, once: from here on nothing may grow.
  check('after the warm-up no process is left', warm.processes === idle.processes, () => describe(descendants(proxy.pid)));
  check('after the warm-up no session holds a file descriptor', warm.fds <= idle.fds + 8, `${idle.fds}, then ${warm.fds}`);

  let from = now();
  await pool(opts.width, count(opts.sessions), (i) => session(proxy.url, i, failures));
  const seconds = (now() - from) / 1000;
  console.log(`${opts.sessions} sessions in ${seconds.toFixed(1)} s (${Math.round(opts.sessions / seconds)}/s)`);
  check(`${opts.sessions} sessions opened, used and ended`, failures.length === 0, () => `${failures.length} failed:\n${failures.slice(0, 5).join('\n')}`);
  compare('sessions', warm, await settled(proxy.pid, warm, 20_000), 4096 + opts.sessions * 2, proxy.pid);
  check('sessions: nothing escaped', await escaped(), () => describe(marked().slice(0, 8)));

  // A second sessile, whose backend takes two seconds to answer: nobody is there any more when it does.
  const slow = await start('2');
  const vanish = async (n) => {
    await pool(opts.width, count(n), async (i) => {
      const client = new HttpClient(slow.url);
      const opening = client.open().then(() => 'opened', (error) => error.message);
      await sleep(50 + (i % 40) * 45); // some at once, some just before the answer
      client.vanish();
      await opening;
    });
  };
  await vanish(16);
  await settled(slow.pid, { processes: 0, fds: 0, threads: 0 }, 6000);
  const before = { ...usage(slow.pid), processes: descendants(slow.pid).length };
  check('vanished: the first ones leave no process', before.processes === 0, () => describe(descendants(slow.pid)));
  from = now();
  await vanish(opts.vanishing);
  console.log(`${opts.vanishing} clients vanished in ${((now() - from) / 1000).toFixed(1)} s`);
  compare('vanished', before, await settled(slow.pid, before, 20_000), 4096 + opts.vanishing * 8, slow.pid);
  check('vanished: nothing escaped', await escaped(), () => describe(marked().slice(0, 8)));

  const again = new HttpClient(slow.url);
  check('a client that stays is served', Boolean(await again.open().catch(() => null)));
  await again.close();

  for (const [name, one] of [['quick', proxy], ['slow', slow]]) {
    const how = await one.stop('SIGTERM').catch((error) => ({ error: error.message }));
    check(`the ${name} sessile ends on SIGTERM`, how.code === 0 || how.signal === 'SIGTERM', `${JSON.stringify(how)}\n${one.log().slice(-500)}`);
  }
  check('and leaves nothing', await escaped(), () => describe(marked().slice(0, 8)));
});
