// Prints what 0G's and IPFS's own tools say about objects of many sizes: node make_vectors.mjs > vectors.json
// Made with @0gfoundation/0g-ts-sdk 1.2.8, ipfs-unixfs-importer 17.1.1, blockstore-core 7.0.1, @ipld/car 5.4.7
// and the @ipld/dag-pb that they bring.
import { MemData } from "@0gfoundation/0g-ts-sdk";
import { CarWriter } from "@ipld/car";
import { MemoryBlockstore } from "blockstore-core";
import { importer } from "ipfs-unixfs-importer";
import { fixedSize } from "ipfs-unixfs-importer/chunker";
import { balanced } from "ipfs-unixfs-importer/layout";
import * as dagPB from "@ipld/dag-pb";
import { createHash } from "node:crypto";

const SLICE = 262144;
const SIZES = [
  0, 1, 255, 256, 257, 4096, 4097, 100000, SLICE - 1, SLICE, SLICE + 1, 2 * SLICE, 3 * SLICE + 5, 7 * SLICE - 300,
  17 * SLICE + 1000, 174 * SLICE, 174 * SLICE + 1,
];

const object = (size) => createHash("shake128", { outputLength: size }).update(`object of ${size} bytes`).digest();

async function zeroG(data) {
  if (data.length === 0) return { root: null };
  const [tree, failed] = await new MemData(data).merkleTree();
  if (failed) throw failed;
  const last = tree.leaves.length - 1;
  const proofs = [...new Set([0, last >> 1, last])].map((index) => ({ index, ...tree.proofAt(index) }));
  return { root: tree.rootHash(), slices: tree.leaves.length, proofs };
}

async function collect(parts) {
  const all = [];
  for await (const part of parts) all.push(part);
  return all;
}

async function ipfs(data) {
  const blocks = new MemoryBlockstore();
  const options = {
    cidVersion: 1, rawLeaves: true, reduceSingleLeafToSelf: true,
    chunker: fixedSize({ chunkSize: SLICE }), layout: balanced({ maxChildrenPerNode: 174 }),
  };
  const [{ cid }] = await collect(importer([{ content: data }], blocks, options));
  const { writer, out } = CarWriter.create([cid]);
  const digest = createHash("sha256");
  const written = (async () => { for await (const part of out) digest.update(part); })();
  const walk = async (one) => {
    const bytes = Buffer.concat(await collect(await blocks.get(one)));
    await writer.put({ cid: one, bytes });
    if (one.code === dagPB.code) for (const link of dagPB.decode(bytes).Links) await walk(link.Hash);
  };
  await walk(cid);
  await writer.close();
  await written;
  return { cid: cid.toString(), car: digest.digest("hex") };
}

const vectors = [];
for (const size of SIZES) {
  const data = size ? object(size) : Buffer.alloc(0);
  vectors.push({ size, ...(await zeroG(data)), ...(await ipfs(data)) });
}
console.log(JSON.stringify(vectors, null, 1));
