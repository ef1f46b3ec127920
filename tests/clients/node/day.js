// An ordinary day of Google's Node library with Cloud Storage: what every step left behind is compared with what it was to be.
//
//     STORAGE_EMULATOR_HOST=http://… node day.js PROJECT BUCKET DIRECTORY
'use strict';

const assert = require('node:assert');
const crypto = require('node:crypto');
const fs = require('node:fs/promises');
const path = require('node:path');
const { pipeline } = require('node:stream/promises');
const { Readable } = require('node:stream');
const { Storage } = require('@google-cloud/storage');

const MIB = 1024 * 1024;

async function day(project, name, directory) {
  const storage = new Storage({ projectId: project, apiEndpoint: process.env.STORAGE_EMULATOR_HOST });
  const bucket = storage.bucket(name);
  await storage.createBucket(name, { location: 'EU', versioning: { enabled: true } });

  const data = {
    'dir/forty': crypto.randomBytes(40 * MIB + 3),
    'dir/nine': crypto.randomBytes(9 * MIB),
    empty: Buffer.alloc(0),
    small: Buffer.from('hello'),
  };
  for (const [object, content] of Object.entries(data)) {
    const file = path.join(directory, path.basename(object));
    await fs.writeFile(file, content);
    // At its defaults: resumable, in one request whose end is not told.
    await bucket.upload(file, { destination: object, metadata: { metadata: { k: 'v' } } });
    const [read] = await bucket.file(object).download();
    assert(read.equals(content), `${object}: ${read.length} bytes read are not the ${content.length} written`);
  }
  const chunked = bucket.file('chunked');
  await bucket.upload(path.join(directory, 'nine'), { destination: chunked, chunkSize: 2 * MIB });
  assert((await chunked.download())[0].equals(data['dir/nine']));
  await pipeline(Readable.from([data.small]), bucket.file('streamed').createWriteStream({ resumable: false }));
  await chunked.save(data.small, { preconditionOpts: { ifGenerationMatch: (await chunked.getMetadata())[0].generation } });
  await assert.rejects(chunked.save('x', { resumable: false, preconditionOpts: { ifGenerationMatch: 1 } }), { code: 412 });

  const names = async (query) => (await bucket.getFiles(query))[0].map((file) => file.name);
  assert.deepStrictEqual(await names({}), ['chunked', 'dir/forty', 'dir/nine', 'empty', 'small', 'streamed']);
  assert.deepStrictEqual(await names({ matchGlob: '**/nine' }), ['dir/nine']);
  assert.deepStrictEqual((await bucket.getFiles({ delimiter: '/', autoPaginate: false }))[2].prefixes, ['dir/']);
  assert.strictEqual((await names({ versions: true })).length, 7);

  await bucket.file('dir/forty').copy(bucket.file('copy'));
  await bucket.file('copy').move('moved');
  assert((await bucket.file('moved').download())[0].equals(data['dir/forty']));
  assert.deepStrictEqual(await bucket.file('copy').exists(), [false]);
  await bucket.combine(['small', 'streamed'], 'joined');
  assert.strictEqual((await bucket.file('joined').download())[0].toString(), 'hellohello');

  await bucket.file('small').setMetadata({ metadata: { n: 'w' } });
  assert.strictEqual((await bucket.file('small').getMetadata())[0].metadata.n, 'w');
  await bucket.file('small').makePublic();
  assert.deepStrictEqual(await bucket.file('small').isPublic(), [true]);
  await bucket.acl.default.add({ entity: 'allUsers', role: storage.acl.READER_ROLE });
  assert.deepStrictEqual((await bucket.getNotifications())[0], []);
  const [key, secret] = await storage.createHmacKey('a@b.iam.gserviceaccount.com');
  assert.strictEqual(secret.length, 40);
  await key.setMetadata({ state: 'INACTIVE' });
  await key.delete();

  await bucket.deleteFiles({ versions: true });
  await bucket.delete();
  assert.deepStrictEqual(await bucket.exists(), [false]);
}

day(...process.argv.slice(2)).then(
  () => console.log('done'),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
