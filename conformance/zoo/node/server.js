// A server process, and a proxy that counts what keep-alive needs: the HTTP/2 PING frames of both sides.
'use strict';

const { spawn } = require('node:child_process');
const fs = require('node:fs');
const http = require('node:http');
const net = require('node:net');
const path = require('node:path');
const { once } = require('node:events');
const { setTimeout: sleep } = require('node:timers/promises');

// A one-member cluster; its ports and its folder stay the same over restarts.
class Server {
  constructor(binary, folder, port) {
    Object.assign(this, { binary, folder, port, address: `127.0.0.1:${port}` });
    fs.mkdirSync(folder, { recursive: true });
  }

  async start() {
    const client = `http://${this.address}`;
    const peer = `http://127.0.0.1:${this.port + 1}`;
    const flags = {
      'name': 'n1',
      'data-dir': path.join(this.folder, 'data'),
      'listen-client-urls': client,
      'advertise-client-urls': client,
      'listen-peer-urls': peer,
      'initial-advertise-peer-urls': peer,
      'initial-cluster': `n1=${peer}`,
      'grpc-keepalive-min-time': '500ms',
    };
    const log = fs.openSync(path.join(this.folder, 'server.log'), 'a');
    const args = Object.entries(flags).map(([name, value]) => `--${name}=${value}`);
    this.process = spawn(this.binary, args, { stdio: ['ignore', log, log] });
    fs.closeSync(log);
    this.ended = once(this.process, 'exit');
    for (const deadline = Date.now() + 20_000; Date.now() < deadline; await sleep(10)) {
      if (this.process.exitCode !== null) throw new Error(`server ended with ${this.process.exitCode}`);
      if (await healthy(this.port)) return;
    }
    throw new Error('server not healthy after 20 s');
  }

  // The end without warning.
  async kill() {
    this.process.kill('SIGKILL');
    await this.ended;
  }

  async stop() {
    if (!this.process || this.process.exitCode !== null || this.process.signalCode !== null) return;
    this.process.kill('SIGTERM');
    const slow = await Promise.race([this.ended.then(() => false), sleep(15_000, true, { ref: false })]);
    if (slow) {
      this.process.kill('SIGKILL');
      throw new Error('SIGTERM did not stop the server in 15 s');
    }
  }
}

function healthy(port) {
  return new Promise((resolve) => {
    const request = http.get({ port, host: '127.0.0.1', path: '/health', agent: false, timeout: 1000 }, (answer) => {
      let text = '';
      answer.on('data', (part) => { text += part; });
      answer.on('end', () => resolve(text.includes('"true"')));
    });
    request.on('error', () => resolve(false));
    request.on('timeout', () => request.destroy());
  });
}

const [PING, GOAWAY, ACK, PREFACE] = [6, 7, 1, 24];

// Passes connections on and counts pings of the client, their answers, and GOAWAY frames of the server.
class PingProxy {
  async listen(port) {
    Object.assign(this, { pings: 0, answers: 0, goaways: 0, sockets: [] });
    this.listener = net.createServer((client) => {
      const server = net.connect(port, '127.0.0.1');
      this.sockets.push(client, server);
      this.pass(client, server, PREFACE);
      this.pass(server, client, 0);
    });
    this.listener.listen(0, '127.0.0.1');
    await once(this.listener, 'listening');
    this.address = `127.0.0.1:${this.listener.address().port}`;
  }

  pass(source, target, skip) {
    let pending = Buffer.alloc(0);
    const ofClient = skip > 0;
    source.on('error', () => target.destroy());
    source.on('close', () => target.destroy());
    source.on('data', (data) => {
      target.write(data);
      pending = Buffer.concat([pending, data]);
      if (pending.length < skip) return;
      pending = pending.subarray(skip);
      skip = 0;
      while (pending.length >= 9 && pending.length >= 9 + pending.readUIntBE(0, 3)) {
        this.frame(ofClient, pending[3], pending[4]);
        pending = pending.subarray(9 + pending.readUIntBE(0, 3));
      }
    });
  }

  // The server pings too, to measure the connection; those are not counted.
  frame(ofClient, kind, flags) {
    const ack = Boolean(flags & ACK);
    if (kind === PING && ofClient && !ack) this.pings += 1;
    else if (kind === PING && !ofClient && ack) this.answers += 1;
    else if (kind === GOAWAY && !ofClient) this.goaways += 1;
  }

  close() {
    this.listener.close();
    for (const socket of this.sockets) socket.destroy();
  }
}

module.exports = { Server, PingProxy };
