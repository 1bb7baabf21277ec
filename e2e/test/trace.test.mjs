// One request of a person as a trace, seen in a real OpenTelemetry collector: from the plugin through stagedoor and the
// policy to apply-conditions and back into the plugin.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { after, before, describe, test } from 'node:test';
import { processedCatalog, signIn, startBackstage } from '../harness/backstage.mjs';
import { startCollector } from '../harness/collector.mjs';
import { startPostgres } from '../harness/postgres.mjs';
import { startReceiver } from '../harness/receiver.mjs';
import { freePort, root, Run, until } from '../harness/run.mjs';
import { startStagedoor, staticKeys } from '../harness/stagedoor.mjs';

describe('traces', () => {
  let run, collector, receiver, stagedoor, ann;

  before(async () => {
    run = new Run('traces');
    collector = await startCollector(run);
    const logPort = await freePort();
    receiver = await startReceiver(run, logPort);
    const [port, doorPort] = [await freePort(), await freePort()];
    stagedoor = await startStagedoor(run, {
      port: doorPort,
      baseUrl: `http://127.0.0.1:${port}`,
      keys: staticKeys(run),
      stagedoor: { policy: { path: 'policies/house' } },
      opa: {
        distributed_tracing: {
          type: 'grpc',
          address: collector.grpc,
          batch_span_processor_options: { batch_timeout_ms: 100 },
        },
        services: { receiver: { url: `http://127.0.0.1:${logPort}` } },
        decision_logs: { service: 'receiver' },
      },
    });
    const { baseUrl, service } = await startBackstage(run, {
      name: 'backstage',
      features: ['auth', 'catalog', 'todo'],
      port,
      postgres: await startPostgres(run),
      endpoints: { permission: stagedoor.url },
      node: ['--import', pathToFileURL(path.join(root, 'backstage/tracing.mjs')).href],
      env: {
        OTEL_EXPORTER_OTLP_ENDPOINT: collector.http,
        OTEL_SERVICE_NAME: 'backstage',
        OTEL_METRICS_EXPORTER: 'none',
        OTEL_LOGS_EXPORTER: 'none',
        OTEL_BSP_SCHEDULE_DELAY: '100',
      },
    });
    await processedCatalog(service); // where sign-in looks people up
    ann = await signIn(run, baseUrl, 'user:default/ann');
  });
  after(async () => {
    await run?.close();
    await collector?.close();
    await receiver?.close();
  });

  test('one trace goes from the plugin through stagedoor and back into the plugin', async () => {
    assert.equal((await ann.call('PUT todo/items/todo-1', { status: 'done' })).status, 200);
    const trace = await until('the trace is whole', () => {
      const asked = collector.spans.find(
        ({ service, name, kind }) => service === 'stagedoor' && kind === 2 && name === 'POST /api/permission/authorize',
      );
      const spans = collector.spans.filter(({ traceId }) => traceId === asked?.traceId);
      const whole = spans.some(({ service, parentSpanId }) => service === 'backstage' && !parentSpanId);
      return whole && spans;
    });
    const find = (service, name) => trace.find(span => span.service === service && span.name.startsWith(name));
    const above = span => trace.find(({ spanId }) => spanId === span.parentSpanId);

    const authorize = find('stagedoor', 'POST /api/permission/authorize');
    assert.equal(above(authorize).service, 'backstage', 'the plugin’s call is above');
    for (const step of ['verify', 'userinfo', 'evaluate', 'apply-conditions']) {
      assert.equal(above(find('stagedoor', step))?.spanId, authorize.spanId, `${step} is a step of it`);
    }
    const call = trace.find(
      ({ service, kind, name }) => service === 'stagedoor' && kind === 3 && name.endsWith('/apply-conditions'),
    );
    assert.equal(above(call).name, 'apply-conditions');
    const applied = trace.find(({ service, parentSpanId }) => service === 'backstage' && parentSpanId === call.spanId);
    assert.ok(applied, 'the plugin’s answer is below stagedoor’s call');

    const { traceId } = authorize;
    await until('the log has the id', () => fs.readFileSync(stagedoor.server.log, 'utf8').includes(`"trace_id":"${traceId}"`));
    await until('the decision log has the id', () => receiver.events.some(event => event.trace_id === traceId));
    const own = JSON.stringify(trace.filter(({ service }) => service === 'stagedoor'));
    assert.ok(!own.includes('user:default/ann') && !own.includes(ann.token), 'no span names anybody');
  });
});
