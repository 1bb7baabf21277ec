// What stands before the backends in a real installation: hands a request on by the longest prefix of its path that is
// known, and to the upstreams of that prefix in turn.

import http from 'node:http';

/** The text that flows through a stream on its way to somewhere else. */
function copy(stream) {
  const chunks = [];
  stream.on('data', chunk => chunks.push(chunk));
  return new Promise(resolve => stream.once('end', () => resolve(Buffer.concat(chunks).toString())));
}

/**
 * Starts an ingress in this process. `routes` is {'/api/permission': ['http://…', 'http://…'], '/': ['http://…']}.
 * `observe` is told of every exchange: {path, request, status, headers, response}, the bodies as text.
 */
export async function startIngress(port, routes, observe) {
  const prefixes = Object.keys(routes).sort((a, b) => b.length - a.length);
  const turns = Object.fromEntries(prefixes.map(prefix => [prefix, 0]));
  const server = http.createServer((req, res) => {
    const prefix = prefixes.find(prefix => req.url.startsWith(prefix));
    const upstreams = routes[prefix];
    const upstream = new URL(req.url, upstreams[turns[prefix]++ % upstreams.length]);
    const headers = observe ? { ...req.headers, 'accept-encoding': 'identity' } : req.headers;
    const request = observe && copy(req);
    const onward = http.request(upstream, { method: req.method, headers }, async answer => {
      const response = observe && copy(answer);
      res.writeHead(answer.statusCode, answer.headers);
      answer.pipe(res);
      if (!observe) return;
      const { statusCode: status, headers } = answer;
      observe({ path: req.url, request: await request, status, headers, response: await response });
    });
    onward.once('error', () => res.writeHead(502).end());
    req.pipe(onward);
  });
  await new Promise(resolve => server.listen(port, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${port}`,
    /** How many requests each prefix has had. */
    turns,
    close() {
      server.closeAllConnections();
      return new Promise(resolve => server.close(resolve));
    },
  };
}
