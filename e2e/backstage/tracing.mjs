// Loaded before a backend (`node --import`): its requests, in and out, become spans of an OpenTelemetry collector. The
// collector is named by OTEL_EXPORTER_OTLP_ENDPOINT, as OpenTelemetry's own variables go.

import { HttpInstrumentation } from '@opentelemetry/instrumentation-http';
import { UndiciInstrumentation } from '@opentelemetry/instrumentation-undici';
import { NodeSDK } from '@opentelemetry/sdk-node';

new NodeSDK({ instrumentations: [new HttpInstrumentation(), new UndiciInstrumentation()] }).start();
