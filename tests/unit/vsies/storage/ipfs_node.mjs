// Runs an IPFS node without network: node ipfs_node.mjs <modules> <folder> <port of its RPC>
// Tried with ipfs-core 0.18.1 and ipfs-http-server 0.15.1.
const [modules, folder, port] = process.argv.slice(2);
const { create } = await import(`${modules}/ipfs-core/src/index.js`);
const { HttpApi } = await import(`${modules}/ipfs-http-server/src/index.js`);

const node = await create({
  repo: folder, offline: true, silent: true, init: { algorithm: "Ed25519", emptyRepo: true },
  config: {
    Addresses: { Swarm: [], API: `/ip4/127.0.0.1/tcp/${port}`, Gateway: "" },
    Bootstrap: [], Discovery: { MDNS: { Enabled: false } },
  },
});
await new HttpApi(node).start();
console.log("ready");
