// Cases on etcd3, etcd's client for JavaScript, which takes up watches and keep-alives again by itself.
'use strict';

const { Etcd3, EtcdLeaseInvalidError, EtcdLockFailedError } = require('etcd3');
const { setTimeout: sleep } = require('node:timers/promises');

const LIMIT = 60_000;

// Waits until the condition gives something; the caller says what it waits for.
async function until(what, condition) {
  for (const deadline = Date.now() + LIMIT; Date.now() < deadline; await sleep(10)) {
    const found = await condition();
    if (found) return found;
  }
  throw new Error(`not in time: ${what}`);
}

// Resolves with the arguments of an event of this name.
function event(emitter, name) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${name} in time`)), LIMIT);
    emitter.once(name, (...args) => {
      clearTimeout(timer);
      resolve(args);
    });
  });
}

// The cases: of the server; `equal` compares, and `put` writes a key on a connection that is not this library's.
module.exports = (server, equal, put) => {
  // A client of its own for the time of `use`.
  async function client(use) {
    const etcd = new Etcd3({ hosts: server.address });
    try {
      await use(etcd);
    } finally {
      etcd.close();
    }
  }

  // Writes keys that begin with `prefix`, one after the other, while the server stops, is killed, and comes back: at
  // each of the steps only after `seen` keys, as many as were acknowledged, have been seen. A write that failed is
  // not tried again, and may have taken effect.
  async function restarts(prefix, seen) {
    let [acknowledged, more] = [0, true];
    const writer = (async () => {
      for (let i = 0; more; i += 1) {
        await put(`${prefix}${i}`, `v${i}`).then(() => { acknowledged += 1; }, () => sleep(10));
      }
    })();
    const step = async (what) => {
      const before = acknowledged;
      await until(`writes ${what}`, () => acknowledged >= before + 20);
      const target = acknowledged;
      await until(`events ${what}`, () => seen() >= target);
    };
    try {
      await step('at first');
      await server.stop();
      await server.start();
      await step('after the stop');
      await server.kill();
      await server.start();
      await step('after the kill');
    } finally {
      more = false;
      await writer;
    }
  }

  return {
    async 'etcd3: keys'() {
      await client(async (etcd) => {
        const binary = Buffer.from([0, 255, 10]);
        await etcd.put('e/a').value(binary);
        await etcd.put('e/b').value('2');
        equal('bytes', await etcd.get('e/a').buffer(), binary);
        equal('nothing', await etcd.get('e/none').string(), null);
        equal('prefix', await etcd.getAll().prefix('e/').sort('Key', 'Descend').keys(), ['e/b', 'e/a']);
        const large = 'x'.repeat(1 << 20);
        await etcd.put('e/large').value(large);
        equal('large value', await etcd.get('e/large').string() === large, true);
        const space = etcd.namespace('e/');
        equal('namespace', await space.get('b').number(), 2);
        equal('deleted', (await etcd.delete().prefix('e/')).deleted, '3');
      });
    },

    async 'etcd3: transactions'() {
      await client(async (etcd) => {
        await etcd.put('et').value('one');
        const txn = () => etcd.if('et', 'Value', '==', 'one').and('et', 'Version', '>', 0)
          .then(etcd.put('et').value('two'), etcd.get('et')).else(etcd.delete().key('et')).commit();
        const first = await txn();
        equal('first', [first.succeeded, first.responses[1].response_range.kvs[0].value.toString()], [true, 'two']);
        const second = await txn();
        equal('second', [second.succeeded, second.responses[0].response_delete_range.deleted], [false, '1']);
        // Each adds one; those that meet try again.
        await etcd.put('et/sum').value('0');
        const add = () => etcd.stm({ retries: 1000 }).transact(async (tx) => {
          await tx.put('et/sum').value(Number(await tx.get('et/sum').number()) + 1);
        });
        await Promise.all(Array.from({ length: 8 }, add));
        equal('sum', await etcd.get('et/sum').number(), 8);
      });
    },

    async 'etcd3: leases'() {
      await client(async (etcd) => {
        const lease = etcd.lease(600);
        const id = await lease.grant();
        await lease.put('el/a').value('v');
        equal('time to live', (await lease.keepaliveOnce()).TTL, '600');
        equal('its key', (await etcd.get('el/a').exec()).kvs[0].lease, id);
        await lease.revoke();
        equal('key of a revoked lease', await etcd.get('el/a').string(), null);
        const late = etcd.lease(600, { autoKeepAlive: false });
        await etcd.leaseClient.leaseRevoke({ ID: await late.grant() });
        const lost = event(late, 'lost');
        const error = await late.put('el/b').value('v').then(() => null, (reason) => reason);
        equal('refused', error instanceof EtcdLeaseInvalidError, true);
        await lost;
      });
    },

    // A lease that is renewed outlives its time, another ends. It mostly waits.
    async 'etcd3: lease that runs out'() {
      await client(async (etcd) => {
        const [kept, left] = [etcd.lease(10), etcd.lease(2, { autoKeepAlive: false })];
        let lost = null;
        kept.on('lost', (error) => { lost = error; });
        const watcher = await etcd.watch().key('ex/left').only('delete').create();
        const gone = event(watcher, 'delete');
        await left.put('ex/left').value('v');
        await kept.put('ex/kept').value('v');
        let renewed = 0;
        kept.on('keepaliveSucceeded', () => { renewed += 1; });
        await gone;
        equal('gone', await etcd.get('ex/left').string(), null);
        const enough = 4;
        await until('renewals', () => renewed >= enough || lost);
        equal('kept', [lost, await etcd.get('ex/kept').string()], [null, 'v']);
        await kept.revoke();
        await watcher.cancel();
      });
    },

    async 'etcd3: locks'() {
      await client(async (etcd) => {
        const lock = await etcd.lock('ek').ttl(600).acquire();
        const error = await etcd.lock('ek').acquire().then(() => null, (reason) => reason);
        equal('taken', error instanceof EtcdLockFailedError, true);
        await lock.release();
        equal('work', await etcd.lock('ek').do(async () => 'done'), 'done');
        // A holder that is gone holds it no longer.
        const lost = await etcd.lock('ek').ttl(600).acquire();
        await etcd.leaseClient.leaseRevoke({ ID: await lost.leaseId() });
        await (await etcd.lock('ek').acquire()).release();
      });
    },

    async 'etcd3: elections'() {
      await client(async (etcd) => {
        const election = etcd.election('ee', 600);
        const observer = await election.observe();
        const leaders = [];
        observer.on('change', (value) => leaders.push(value));
        const first = election.campaign('first');
        await event(first, 'elected');
        await until('the first leader', () => observer.leader() === 'first');
        const second = election.campaign('second');
        await event(second, '_isWaiting');
        equal('leader', await election.leader(), 'first');
        await first.proclaim('first again');
        await until('what the leader proclaims', () => observer.leader() === 'first again');
        const elected = event(second, 'elected');
        await first.resign();
        await elected;
        equal('leader', await election.leader(), 'second');
        await until('the next leader', () => observer.leader() === 'second');
        equal('seen', leaders.filter((value) => value !== undefined), ['first', 'first again', 'second']);
        await second.resign();
        await observer.cancel();
      });
    },

    async 'etcd3: watch and lease across restarts'() {
      await client(async (etcd) => {
        const lease = etcd.lease(30);
        let lost = null;
        lease.on('lost', (error) => { lost = error; });
        await lease.put('er-lease').value('v');
        const events = [];
        const watcher = await etcd.watch().prefix('er/').create();
        watcher.on('put', (kv) => events.push([kv.key.toString(), kv.mod_revision]));
        await restarts('er/', () => events.length);
        const range = await etcd.getAll().prefix('er/').sort('Mod', 'Ascend').exec();
        const all = range.kvs.map((kv) => [kv.key.toString(), kv.mod_revision]);
        await until('the last event', () => events.length >= all.length);
        equal('every event once, in order', events, all);
        await event(lease, 'keepaliveSucceeded');
        equal('the lease', [lost, await etcd.get('er-lease').string()], [null, 'v']);
        await lease.revoke();
        await watcher.cancel();
      });
    },
  };
};
