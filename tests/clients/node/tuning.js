// A model's life with Google's Node library for generative AI, signed in with a service account's key: tuned, deployed, asked.
//
//     GOOGLE_VERTEX_BASE_URL=http://… GOOGLE_APPLICATION_CREDENTIALS=key.json node tuning.js PROJECT DATASET OUTPUT
'use strict';

const assert = require('node:assert');
const fs = require('node:fs/promises');
const { setTimeout: sleep } = require('node:timers/promises');
const { GoogleGenAI } = require('@google/genai');
const { JWT } = require('google-auth-library');

const BASE = process.env.GOOGLE_VERTEX_BASE_URL;

async function life(project, dataset, output) {
  const key = JSON.parse(await fs.readFile(process.env.GOOGLE_APPLICATION_CREDENTIALS, 'utf8'));
  const client = new JWT({
    email: key.client_email,
    key: key.private_key,
    keyId: key.private_key_id,
    scopes: ['https://www.googleapis.com/auth/cloud-platform'],
  });
  // Else it buys a token at Google's own address, whatever the key's file says.
  client.useJWTAccessWithScope = true;
  const location = 'us-central1';
  const ai = new GoogleGenAI({ vertexai: true, project, location, googleAuthOptions: { authClient: client } });
  const call = async (method, path, data) => (await client.request({ url: `${BASE}/v1beta1/${path}`, method, data })).data;
  const done = async (operation) => {
    while (!operation.done) {
      operation = await call('POST', `${operation.name}:wait`);
    }
    assert(!operation.error, JSON.stringify(operation.error));
    return operation.response;
  };

  let job = await ai.tunings.tune({
    baseModel: 'meta/llama3_1@llama-3.1-8b',
    trainingDataset: { gcsUri: dataset },
    config: { epochCount: 1, outputUri: output, tunedModelDisplayName: 'by-node' },
  });
  while (!job.endTime) {
    await sleep(200);
    job = await ai.tunings.get({ name: job.name });
  }
  assert.strictEqual(job.state, 'JOB_STATE_SUCCEEDED', JSON.stringify(job.error));

  const parent = `projects/${project}/locations/${location}`;
  const machineSpec = { machineType: 'g2-standard-12', acceleratorType: 'NVIDIA_L4', acceleratorCount: 1 };
  const { endpoint } = await done(
    await call('POST', `${parent}:deploy`, {
      customModel: { gcsUri: `${output}/postprocess/node-0/checkpoints/final` },
      deployConfig: { dedicatedResources: { machineSpec, minReplicaCount: 1 } },
    }),
  );
  const question = { model: endpoint, contents: 'What is a car?', config: { maxOutputTokens: 4, temperature: 0 } };
  const answer = await ai.models.generateContent(question);
  assert(answer.usageMetadata.candidatesTokenCount > 0);
  let streamed = '';
  for await (const piece of await ai.models.generateContentStream(question)) {
    streamed += piece.text ?? '';
  }
  assert.strictEqual(streamed, answer.text ?? '');

  const [{ id }] = (await call('GET', endpoint)).deployedModels;
  await done(await call('POST', `${endpoint}:undeployModel`, { deployedModelId: id }));
  await done(await call('DELETE', endpoint));
}

life(...process.argv.slice(2)).then(
  () => console.log('done'),
  (error) => {
    console.log(String(error));
    process.exit(1);
  },
);
