'use strict';
// Runs one receiver of the npm package iobroker.wireless-mbus on a pseudo terminal and tells what it hears.
//
// node stick_host.js PACKAGE RECEIVER MODE DEVICE
//
// One JSON object a line: {"ready": true}, {"failed": "..."}, {"telegram": hex, "frame": "A", "rssi": n}.
// The package's serial port library needs native code; a port that reads and writes the device stands in.
const { EventEmitter } = require('node:events');
const fs = require('node:fs');
const Module = require('node:module');
const path = require('node:path');

class Port extends EventEmitter {
  constructor(options) {
    super();
    this.fd = fs.openSync(options.path, 'r+');
    this.bytes = fs.createReadStream(null, { fd: this.fd, autoClose: false });
    this.bytes.on('data', (data) => this.emit('data', data));
    this.bytes.on('error', (error) => this.emit('error', error));
  }

  write(data, done) {
    fs.writeSync(this.fd, data);
    done();
  }

  close(done) {
    this.bytes.destroy();
    done();
  }
}

const load = Module._load;
Module._load = function (name, ...rest) {
  return name === 'serialport' ? { SerialPort: Port } : load.call(this, name, ...rest);
};

const [folder, receiver, mode, device] = process.argv.slice(2);
const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
const Receiver = require(path.join(folder, 'build/lib/receiver', `${receiver}.js`)).default;
const host = new Receiver(
  { path: device },
  mode,
  (heard) => say({ telegram: heard.rawData.toString('hex'), frame: heard.frameType, rssi: heard.rssi }),
  (error) => say({ failed: String(error) }),
  (line) => process.stderr.write(`${line}\n`),
);
host.init().then(
  () => say({ ready: true }),
  (error) => {
    say({ failed: String(error) });
    process.exit(1);
  },
);
