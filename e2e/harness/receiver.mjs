// The server to which OPA's decision log is sent: takes gzipped arrays of events, as OPA's plugin uploads them.

import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { buffer } from 'node:stream/consumers';
import { gunzipSync } from 'node:zlib';

/** Starts a receiver in this process. What it receives also goes into a log file of the run. */
export async function startReceiver(run, port) {
  const log = path.join(run.dir, 'decisions.log');
  const events = [];
  const server = http.createServer(async (req, res) => {
    const received = JSON.parse(gunzipSync(await buffer(req)));
    events.push(...received);
    fs.appendFileSync(log, received.map(event => `${JSON.stringify(event)}\n`).join(''));
    res.end();
  });
  const listen = () => new Promise(resolve => server.listen(port, '127.0.0.1', resolve));
  await listen();
  return {
    /** Every event so far, in the order of arrival. */
    events,
    listen,
    close() {
      server.closeAllConnections();
      return new Promise(resolve => server.close(resolve));
    },
  };
}
