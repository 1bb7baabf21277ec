// A PostgreSQL cluster of Debian's packages that lives as long as the run: loopback TCP, a port of its own, no socket.

import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { freePort } from './run.mjs';

/** The folder of initdb and postgres: on the PATH, or the newest of /usr/lib/postgresql. */
function binaries() {
  const installed = '/usr/lib/postgresql';
  const versions = fs.existsSync(installed) ? fs.readdirSync(installed).sort((a, b) => b - a) : [];
  const folders = [...process.env.PATH.split(':'), ...versions.map(version => `${installed}/${version}/bin`)];
  const folder = folders.find(folder => fs.existsSync(`${folder}/initdb`) && fs.existsSync(`${folder}/postgres`));
  if (!folder) throw new Error('no initdb and postgres on the PATH or in /usr/lib/postgresql: install postgresql');
  return folder;
}

/** Whom to run as: initdb and postgres refuse root, so as root it is the user that the package made. */
function owner() {
  if (process.getuid() !== 0) return {};
  const id = flag => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }));
  return { uid: id('-u'), gid: id('-g') };
}

function accepts(port) {
  return new Promise(resolve => {
    const socket = net.connect(port, '127.0.0.1', () => resolve(true)).once('error', () => resolve(false));
    socket.unref().once('connect', () => socket.destroy());
  });
}

/** Starts a cluster and returns how to connect to it. It is gone when the run is closed. */
export async function startPostgres(run) {
  const bin = binaries();
  const as = owner();
  const data = run.temporary();
  if (as.uid) fs.chownSync(data, as.uid, as.gid);

  const init = ['-D', data, '-U', 'backstage', '--auth=trust', '--encoding=UTF8', '--locale=C', '--no-sync'];
  execFileSync(path.join(bin, 'initdb'), init, { ...as, cwd: data, stdio: ['ignore', 'ignore', 'inherit'] });

  const port = await freePort();
  const settings = {
    listen_addresses: '127.0.0.1',
    port,
    unix_socket_directories: '',
    fsync: 'off',
    synchronous_commit: 'off',
    full_page_writes: 'off',
  };
  const args = Object.entries(settings).flatMap(([key, value]) => ['-c', `${key}=${value}`]);
  const server = run.start('postgres', path.join(bin, 'postgres'), ['-D', data, ...args], { ...as, cwd: data });
  server.stopSignal = 'SIGINT'; // its "fast" shutdown: does not wait for clients
  server.last = true;
  await server.ready(() => accepts(port));
  return { host: '127.0.0.1', port, user: 'backstage' };
}
