// What stands before the backends in a real installation: hands a request on by the longest prefix of its path that is
// known, and to the upstreams of that prefix in turn.

import http from 'node:http';

/** Starts an ingress in this process. `routes` is {'/api/permission': ['http://…', 'http://…'], '/': ['http://…']}. */
export async function startIngress(port, routes) {
  const prefixes = Object.keys(routes).sort((a, b) => b.length - a.length);
  const turns = Object.fromEntries(prefixes.map(prefix => [prefix, 0]));
  const server = http.createServer((req, res) => {
    const prefix = prefixes.find(prefix => req.url.startsWith(prefix));
    const upstreams = routes[prefix];
    const upstream = new URL(req.url, upstreams[turns[prefix]++ % upstreams.length]);
    const onward = http.request(upstream, { method: req.method, headers: req.headers }, answer => {
      res.writeHead(answer.statusCode, answer.headers);
      answer.pipe(res);
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
