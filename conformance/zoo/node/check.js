// Judges a server through grpc-js, gRPC in JavaScript on Node's HTTP/2: usage check.js SERVER FOLDER PORT PROTO [CASE].
// PROTO is the folder crates/api/proto. PORT and the one after it must be free.
'use strict';

const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const { isDeepStrictEqual, inspect } = require('node:util');
const { setTimeout: sleep } = require('node:timers/promises');
const etcd3 = require('./etcd3.js');
const { PingProxy, Server } = require('./server.js');

const [BINARY, FOLDER, PORT, PROTO, ...ONLY] = process.argv.slice(2);
const LIMIT = 60_000;

const definition = loader.loadSync(['rpc.proto', 'v3lock.proto', 'health.proto'], {
  includeDirs: [PROTO], keepCase: true, longs: String, enums: String, defaults: true, oneofs: true,
});
const { etcdserverpb, v3lockpb, grpc: { health: { v1: health } } } = grpc.loadPackageDefinition(definition);
const { status } = grpc;
const server = new Server(BINARY, FOLDER, Number(PORT));

class NotYet extends Error {}

// A connection of its own with every service on it.
function connect(address, options = {}) {
  const channel = new grpc.Channel(address, grpc.credentials.createInsecure(), {
    'grpc.max_receive_message_length': -1,
    'grpc.max_send_message_length': -1,
    'grpc.initial_reconnect_backoff_ms': 100,
    'grpc.max_reconnect_backoff_ms': 300,
    'grpc.use_local_subchannel_pool': 1,
    ...options,
  });
  const client = (service) => new service(address, grpc.credentials.createInsecure(), { channelOverride: channel });
  return {
    channel,
    close: () => channel.close(),
    kv: client(etcdserverpb.KV),
    watch: client(etcdserverpb.Watch),
    lease: client(etcdserverpb.Lease),
    lock: client(v3lockpb.Lock),
    health: client(health.Health),
  };
}

// A unary call as a promise; `more` may carry metadata, a deadline in ms, and a taker of the call's metadata.
function unary(client, method, request, more = {}) {
  const { metadata = new grpc.Metadata(), limit = LIMIT, seen = () => {} } = more;
  return new Promise((resolve, reject) => {
    const options = { deadline: Date.now() + limit };
    const call = client[method](request, metadata, options, (error, answer) => (error ? reject(error) : resolve(answer)));
    call.on('metadata', (initial) => seen('initial', initial));
    call.on('status', (end) => seen('trailing', end.metadata));
  });
}

// A stream whose answers are taken one by one; while nobody takes them, they wait in the connection's windows.
class Stream {
  constructor(call) {
    this.call = call;
    this.error = null;
    call.on('error', (error) => { this.error = error; });
    call.on('status', (end) => { this.status = end; });
    call.pause();
    this.answers = call[Symbol.asyncIterator]();
  }

  send(message) {
    this.call.write(message);
  }

  // The next answer; undefined when the stream has ended well.
  async next() {
    const limit = sleep(LIMIT, null, { ref: false }).then(() => { throw new Error('no answer in time'); });
    const { value } = await Promise.race([this.answers.next(), limit]);
    return value;
  }

  cancel() {
    this.call.cancel();
  }
}

function equal(what, got, want) {
  if (!isDeepStrictEqual(got, want)) {
    throw new Error(`${what}: got ${inspect(got).slice(0, 300)}, want ${inspect(want).slice(0, 300)}`);
  }
}

// The call must fail with this status; without a text, the client made one up.
async function refused(call, code, text) {
  let answer;
  try {
    answer = await call;
  } catch (error) {
    if (error.code === undefined) throw error;
    // Some builds of Go's protobuf write a space that does not break.
    const details = error.details.replaceAll('\u00a0', ' ');
    equal('status', [status[error.code], text === undefined ? undefined : details], [status[code], text]);
    return error;
  }
  throw new Error(`no error but ${inspect(answer).slice(0, 100)}, want ${status[code]} ${text ?? ''}`);
}

// The call must end by its deadline. The server knows it too: when it is first, it resets the stream, and the client
// calls that cancelled, or it answers that the request timed out.
async function late(call) {
  const error = await call.then(() => null, (reason) => reason);
  if (error?.details === 'etcdserver: request timed out') return;
  if (![status.DEADLINE_EXCEEDED, status.CANCELLED].includes(error?.code)) throw error ?? new Error('no error');
}

const bytes = (text) => Buffer.from(text);
const put = (on, key, value, more) => unary(on.kv, 'Put', { key: bytes(key), value: Buffer.from(value) }, more);
const get = (on, key, fields = {}) => unary(on.kv, 'Range', { key: bytes(key), ...fields });

// The end of the range of keys that begin with `key`.
function after(key) {
  const end = bytes(key);
  end[end.length - 1] += 1;
  return end;
}

async function watcher(on, key, fields = {}) {
  const stream = new Stream(on.watch.Watch({ deadline: Date.now() + 2 * LIMIT }));
  stream.send({ create_request: { key: bytes(key), ...fields } });
  const created = await stream.next();
  equal('created', [created.created, created.canceled], [true, false]);
  stream.id = created.watch_id;
  return stream;
}

const cases = {
  async 'put get delete'(on) {
    const value = Buffer.from([0, 255, 32]);
    const first = BigInt((await put(on, 'a/1', value)).header.revision);
    const answer = await get(on, 'a/1');
    equal('count', [answer.count, answer.more], ['1', false]);
    equal('value', answer.kvs[0].value, value);
    equal('revisions', [answer.kvs[0].create_revision, answer.kvs[0].version], [String(first), '1']);
    const gone = await unary(on.kv, 'DeleteRange', { key: bytes('a/1'), prev_kv: true });
    equal('deleted', [gone.deleted, gone.prev_kvs[0].value], ['1', value]);
    equal('revision', gone.header.revision, String(first + 1n));
    equal('gone', (await get(on, 'a/1')).count, '0');
  },

  async 'large value'(on) {
    const value = Buffer.alloc(1 << 20, 'etcd value ');
    await put(on, 'large', value);
    equal('value', (await get(on, 'large')).kvs[0].value.equals(value), true);
    const larger = (size) => put(on, 'larger', Buffer.alloc(size));
    await refused(larger(1_600_000), status.INVALID_ARGUMENT, 'etcdserver: request is too large');
    await refused(larger(2 << 20), status.RESOURCE_EXHAUSTED,
      'grpc: received message larger than max (2097165 vs. 2097152)');
    equal('after the refusal', (await get(on, 'large')).kvs[0].value.equals(value), true);
  },

  async 'concurrent calls'(on) {
    const total = 5000;
    const calls = [];
    for (let i = 0; i < total; i += 1) calls.push(put(on, `many/${i}`, 'v'));
    const revisions = (await Promise.all(calls)).map((answer) => answer.header.revision);
    equal('revisions', new Set(revisions).size, total);
    equal('count', (await get(on, 'many/', { range_end: after('many/'), count_only: true })).count, String(total));
  },

  async txn(on) {
    await put(on, 't', 'one');
    const key = bytes('t');
    const request = {
      compare: [{ key, target: 'VALUE', result: 'EQUAL', value: bytes('one') }],
      success: [{ request_put: { key, value: bytes('two'), prev_kv: true } }, { request_range: { key } }],
      failure: [{ request_delete_range: { key } }],
    };
    let answer = await unary(on.kv, 'Txn', request);
    equal('first', answer.succeeded, true);
    equal('previous', answer.responses[0].response_put.prev_kv.value, bytes('one'));
    equal('read', answer.responses[1].response_range.kvs[0].value, bytes('two'));
    answer = await unary(on.kv, 'Txn', request);
    equal('second', [answer.succeeded, answer.responses[0].response_delete_range.deleted], [false, '1']);
  },

  async 'large range'(on) {
    const total = 10_000;
    const key = (i) => `r/${String(i).padStart(5, '0')}`;
    const value = (name) => Buffer.alloc(700, name);
    const txns = [];
    for (let begin = 0; begin < total; begin += 100) {
      const success = [];
      for (let i = begin; i < begin + 100; i += 1) {
        success.push({ request_put: { key: bytes(key(i)), value: value(key(i)) } });
      }
      txns.push(unary(on.kv, 'Txn', { success }));
    }
    await Promise.all(txns);
    const range = { range_end: after('r/') };
    const part = await get(on, 'r/', { ...range, limit: 7 });
    equal('limit', [part.kvs.length, part.more, part.count], [7, true, String(total)]);
    // Several at once, so that answers share the connection's window.
    for (const answer of await Promise.all([0, 1, 2].map(() => get(on, 'r/', range)))) {
      equal('keys', answer.kvs.length, total);
      answer.kvs.forEach((kv, i) => {
        if (kv.key.toString() !== key(i) || !kv.value.equals(value(key(i)))) throw new Error(`key ${i} is wrong`);
      });
    }
  },

  async 'range stream'(on) {
    for (let i = 0; i < 30; i += 1) await put(on, `s/${10 + i}`, Buffer.alloc(100_000, i));
    const stream = new Stream(on.kv.RangeStream({ key: bytes('s/'), range_end: after('s/') }));
    const keys = [];
    for (let part; (part = await stream.next());) keys.push(...part.range_response.kvs.map((kv) => kv.key.toString()));
    equal('keys', keys, Array.from({ length: 30 }, (_, i) => `s/${10 + i}`));
  },

  async watch(on) {
    const total = 1000;
    const stream = await watcher(on, 'w/', { range_end: after('w/'), prev_kv: true });
    const calls = [];
    for (let i = 0; i < total; i += 1) calls.push(put(on, `w/${i % 100}`, String(i)));
    const last = new Map();
    let revision = 0n;
    for (let count = 0; count < total;) {
      for (const event of (await stream.next()).events) {
        if (BigInt(event.kv.mod_revision) <= revision) throw new Error(`${event.kv.mod_revision} after ${revision}`);
        revision = BigInt(event.kv.mod_revision);
        const key = event.kv.key.toString();
        equal('value before', event.prev_kv?.value.toString(), last.get(key));
        last.set(key, event.kv.value.toString());
        count += 1;
      }
    }
    await Promise.all(calls);
    // A client that has no more to ask is still told of events.
    stream.call.end();
    await sleep(100);
    await put(on, 'w/0', 'later');
    equal('event after the end of requests', (await stream.next()).events[0].kv.value, bytes('later'));
    stream.cancel();
  },

  // A stream that nobody reads must not hold up the other calls of its connection.
  async 'slow watcher'(on) {
    const stream = await watcher(on, 'slow/', { range_end: after('slow/') });
    for (let i = 0; i < 60; i += 1) await put(on, `slow/${i}`, Buffer.alloc(200_000));
    equal('another call', (await get(on, 'slow/59')).count, '1');
    for (let seen = 0; seen < 60;) seen += (await stream.next()).events.length;
    stream.cancel();
  },

  async 'lease keep alive'(on) {
    const { ID, TTL } = await unary(on.lease, 'LeaseGrant', { TTL: 30 });
    equal('granted', TTL, '30');
    await unary(on.kv, 'Put', { key: bytes('leased'), value: bytes('v'), lease: ID });
    const stream = new Stream(on.lease.LeaseKeepAlive());
    for (let i = 0; i < 20; i += 1) {
      stream.send({ ID });
      const answer = await stream.next();
      equal('renewed', [answer.ID, answer.TTL], [ID, '30']);
    }
    stream.send({ ID: String(BigInt(ID) + 1n) });
    equal('unknown lease', (await stream.next()).TTL, '0');
    stream.call.end();
    equal('end', await stream.next(), undefined);
    await unary(on.lease, 'LeaseRevoke', { ID });
    equal('key of a revoked lease', (await get(on, 'leased')).count, '0');
  },

  async 'error status'(on) {
    const error = await refused(put(on, '', 'v'), status.INVALID_ARGUMENT, 'etcdserver: key is not provided');
    equal('metadata', Object.keys(error.metadata.getMap()).filter((name) => name !== 'content-type'), []);
    await refused(unary(on.lease, 'LeaseRevoke', { ID: 77 }), status.NOT_FOUND, 'etcdserver: requested lease not found');
    await refused(get(on, 'k', { revision: 1e12 }), status.OUT_OF_RANGE,
      'etcdserver: mvcc: required revision is a future revision');
  },

  async 'unknown method'(on) {
    const raw = new grpc.Client(server.address, grpc.credentials.createInsecure(), { channelOverride: on.channel });
    const same = (value) => value;
    const call = (path) => new Promise((resolve, reject) => {
      raw.makeUnaryRequest(path, same, same, Buffer.alloc(0), (error, answer) => (error ? reject(error) : resolve(answer)));
    });
    await refused(call('/etcdserverpb.KV/Nope'), status.UNIMPLEMENTED, 'unknown method Nope for service etcdserverpb.KV');
    await refused(call('/no.Such/Thing'), status.UNIMPLEMENTED, 'unknown service no.Such');
    const stream = new Stream(raw.makeBidiStreamRequest('/no.Such/Stream', same, same));
    for (let i = 0; i < 100; i += 1) stream.send(bytes('x'));
    await refused(stream.next(), status.UNIMPLEMENTED, 'unknown service no.Such');
  },

  async compacted(on) {
    const { revision } = (await put(on, 'c', '1')).header;
    const latest = (await put(on, 'c', '2')).header.revision;
    await unary(on.kv, 'Compact', { revision: latest, physical: true });
    await refused(get(on, 'c', { revision }), status.OUT_OF_RANGE,
      'etcdserver: mvcc: required revision has been compacted');
    const stream = await watcher(on, 'c', { start_revision: revision });
    const answer = await stream.next();
    equal('watch', [answer.canceled, answer.compact_revision], [true, latest]);
    stream.cancel();
  },

  async deadline(on) {
    const stream = new Stream(on.watch.Watch({ deadline: Date.now() + 1000 }));
    stream.send({ create_request: { key: bytes('never') } });
    const begun = Date.now();
    await late(stream.next().then(() => stream.next()));
    if (Date.now() - begun > 10_000) throw new Error(`ended after ${Date.now() - begun} ms`);
    // Calls that end before, at and after their deadline.
    const calls = [];
    for (let i = 0; i < 400; i += 1) calls.push(put(on, 'd', Buffer.alloc(1000), { limit: i / 20 }));
    for (const { reason } of await Promise.allSettled(calls)) {
      if (reason) await late(Promise.reject(reason));
    }
    await get(on, 'd');
  },

  async 'deadline of a lock'(on) {
    const lease = async () => (await unary(on.lease, 'LeaseGrant', { TTL: 60 })).ID;
    const take = async (limit) => unary(on.lock, 'Lock', { name: bytes('lock'), lease: await lease() }, { limit });
    const held = await take(LIMIT).catch((error) => {
      throw error.code === status.UNIMPLEMENTED ? new NotYet(error.details) : error;
    });
    await late(take(400));
    await unary(on.lock, 'Unlock', { key: held.key });
    // The waiter that gave up must not be in the way.
    await take(LIMIT);
  },

  async 'cancel watch'(on) {
    const stream = await watcher(on, 'x/1');
    stream.send({ create_request: { key: bytes('x/2') } });
    const second = (await stream.next()).watch_id;
    stream.send({ cancel_request: { watch_id: stream.id } });
    let answer = await stream.next();
    equal('canceled', [answer.watch_id, answer.canceled], [stream.id, true]);
    await put(on, 'x/1', 'unseen');
    await put(on, 'x/2', 'seen');
    answer = await stream.next();
    equal('event', [answer.watch_id, answer.events[0].kv.value], [second, bytes('seen')]);
    stream.cancel();
    await refused(stream.next(), status.CANCELLED);
    // Streams that are cancelled at once must leave nothing that stops later ones.
    for (let i = 0; i < 200; i += 1) (await watcher(on, 'x/3')).cancel();
    const later = await watcher(on, 'x/3');
    await put(on, 'x/3', 'v');
    equal('later stream', (await later.next()).events[0].kv.key, bytes('x/3'));
    later.cancel();
  },

  async metadata(on) {
    const metadata = new grpc.Metadata();
    metadata.set('hasleader', 'true');
    metadata.set('x-text', 'a b, c');
    metadata.add('x-many', '1');
    metadata.add('x-many', '2');
    metadata.set('x-bytes-bin', Buffer.from([...Array(256).keys()]));
    metadata.set('x-long', 'l'.repeat(6000));
    const seen = {};
    await put(on, 'm', 'v', { metadata, seen: (kind, got) => { seen[kind] = got.getMap(); } });
    delete seen.initial.date;
    equal('metadata', seen, { initial: { 'content-type': 'application/grpc' }, trailing: {} });
    // Fresh names fill the header table beyond its size and are evicted.
    for (let i = 0; i < 300; i += 1) {
      const fresh = new grpc.Metadata();
      fresh.set(`x-name-${i}`, 'value'.repeat(20));
      await put(on, 'm', 'v', { metadata: fresh });
    }
  },

  // A header block of several frames.
  async 'long metadata'(on) {
    const metadata = new grpc.Metadata();
    for (let i = 0; i < 6; i += 1) metadata.set(`x-long-${i}`, 'l'.repeat(7000));
    await put(on, 'm', 'v', { metadata });
  },

  async gzip(on) {
    const zipped = connect(server.address, { 'grpc.default_compression_algorithm': 2 });
    const value = Buffer.alloc(250_000, 'compressible ');
    await put(zipped, 'z', value);
    equal('value', (await get(zipped, 'z')).kvs[0].value.equals(value), true);
    await put(zipped, 'z', 'small');
    equal('small value', (await get(zipped, 'z')).kvs[0].value, bytes('small'));
    const stream = await watcher(zipped, 'z');
    await put(on, 'z', value);
    equal('event', (await stream.next()).events[0].kv.value.equals(value), true);
    stream.cancel();
    zipped.close();
  },

  async deflate() {
    const zipped = connect(server.address, { 'grpc.default_compression_algorithm': 1 });
    await refused(put(zipped, 'z', 'value'.repeat(1000)), status.UNIMPLEMENTED,
      'grpc: Decompressor is not installed for grpc-encoding "deflate"');
    zipped.close();
  },

  async health(on) {
    equal('whole server', (await unary(on.health, 'Check', {})).status, 'SERVING');
    await refused(unary(on.health, 'Check', { service: 'nope' }), status.NOT_FOUND, 'unknown service');
    const stream = new Stream(on.health.Watch({}));
    equal('watch', (await stream.next()).status, 'SERVING');
    stream.cancel();
  },

  async 'keep-alive pings'() {
    const proxy = new PingProxy();
    await proxy.listen(Number(PORT));
    const alive = connect(proxy.address, {
      'grpc.keepalive_time_ms': 1000, 'grpc.keepalive_timeout_ms': 10_000,
    });
    const stream = await watcher(alive, 'ping');
    const before = proxy.pings;
    for (const deadline = Date.now() + LIMIT; proxy.answers < before + 3; await sleep(50)) {
      const { pings, answers } = proxy;
      if (Date.now() > deadline) throw new Error(`${pings - before} pings in ${LIMIT} ms, ${answers - before} answered`);
    }
    await put(alive, 'ping', 'v');
    equal('event', (await stream.next()).events[0].kv.value, bytes('v'));
    equal('goaways', proxy.goaways, 0);
    stream.cancel();
    alive.close();
    proxy.close();
  },

  // Connections that are closed with calls under way.
  async 'abandoned channels'(on) {
    for (let i = 0; i < 20; i += 1) {
      const other = connect(server.address);
      const stream = await watcher(other, 'q');
      put(other, 'q', Buffer.alloc(500_000)).catch(() => {});
      stream.cancel();
      other.close();
    }
    await put(on, 'q', 'v');
  },

  async restart(on) {
    await put(on, 'kept', 'v');
    const stream = await watcher(on, 'kept');
    await server.stop();
    await refused(stream.next(), status.UNAVAILABLE);
    await refused(put(on, 'kept', 'w'), status.UNAVAILABLE);
    await server.start();
    const ready = new grpc.Metadata({ waitForReady: true });
    const answer = await unary(on.kv, 'Range', { key: bytes('kept') }, { metadata: ready });
    equal('value', answer.kvs[0].value, bytes('v'));
    const again = await watcher(on, 'kept');
    await put(on, 'kept', 'again');
    equal('event', (await again.next()).events[0].kv.value, bytes('again'));
    again.cancel();
  },
};

let writer;
Object.assign(cases, etcd3(server, equal, (key, value) => put(writer, key, value)));

// These mostly wait, so they run beside those that follow on CALM; before it, revisions are counted, and this process
// is busy for seconds at a time.
const CALM = 'large range';
const waiting = ['keep-alive pings', 'etcd3: lease that runs out'];
const stopping = ['restart', 'etcd3: watch and lease across restarts'];

const counts = { passed: 0, failed: 0 };

async function run(name, on) {
  const begun = Date.now();
  try {
    await cases[name](on);
    counts.passed += 1;
    console.log(`ok ${name}`);
  } catch (error) {
    if (error instanceof NotYet) {
      console.log(`not yet ${name}: ${error.message}`);
      return;
    }
    counts.failed += 1;
    console.log(`FAIL ${name}: ${error.message.replaceAll('\n', ' ')}`);
    console.error(error.stack);
  } finally {
    console.error(`${name}: ${Date.now() - begun} ms`);
  }
}

// Cases run in the order of the file, but for those that wait or stop the server.
async function main() {
  await server.start();
  writer = connect(server.address);
  const wanted = (name) => ONLY.length === 0 || ONLY.includes(name);
  const apart = [...waiting, ...stopping];
  let beside = [];
  for (const name of Object.keys(cases).filter((each) => !apart.includes(each))) {
    if (wanted(name)) await run(name, writer);
    if (name === CALM) beside = waiting.filter(wanted).map((each) => run(each));
  }
  await Promise.all(beside);
  for (const name of stopping.filter(wanted)) await run(name, writer);
  writer.close();
  console.log(`${counts.passed} passed, ${counts.failed} failed`);
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 2;
}).finally(async () => {
  await server.stop();
  process.exit(process.exitCode ?? (counts.failed ? 1 : 0));
});
