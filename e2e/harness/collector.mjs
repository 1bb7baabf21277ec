// The OpenTelemetry collector of tools/otelcol as a process. What it has received it passes on to this process.

import http from 'node:http';
import path from 'node:path';
import { json } from 'node:stream/consumers';
import { freePort, root } from './run.mjs';

/**
 * Starts a collector. `grpc` and `http` are its addresses for OTLP, `spans` all that it has passed on so far, each with
 * `service`, the name of whoever sent it. `close` ends the receiver; the collector ends with the run.
 */
export async function startCollector(run) {
  const spans = [];
  const receiver = http.createServer(async (req, res) => {
    const { resourceSpans } = await json(req);
    for (const { resource, scopeSpans } of resourceSpans) {
      const service = resource.attributes.find(({ key }) => key === 'service.name').value.stringValue;
      for (const scope of scopeSpans) spans.push(...scope.spans.map(span => ({ ...span, service })));
    }
    res.setHeader('content-type', 'application/json').end('{}');
  });
  await new Promise(resolve => receiver.listen(0, '127.0.0.1', resolve));
  const [grpc, otlp] = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`];
  const config = run.write('collector.yaml', {
    receivers: { otlp: { protocols: { grpc: { endpoint: grpc }, http: { endpoint: otlp } } } },
    exporters: {
      otlphttp: {
        endpoint: `http://127.0.0.1:${receiver.address().port}`,
        encoding: 'json',
        compression: 'none',
        sending_queue: { enabled: false },
      },
    },
    service: {
      telemetry: { metrics: { level: 'none' } },
      pipelines: { traces: { receivers: ['otlp'], exporters: ['otlphttp'] } },
    },
  });
  const server = run.start('collector', path.join(root, '../bin/otelcol'), ['--config', `file:${config}`]);
  await server.ready(() => fetch(`http://${otlp}/v1/traces`, { method: 'POST' }));
  return {
    grpc,
    http: `http://${otlp}`,
    spans,
    close: () => {
      receiver.closeAllConnections();
      return new Promise(resolve => receiver.close(resolve));
    },
  };
}
