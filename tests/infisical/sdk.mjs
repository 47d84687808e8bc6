// Reads from the test server with the official Node SDK: what the server says is what that SDK understands.
//
// usage: node sdk.mjs SERVER FOLDER   (the program `infisical-server`; the folder that holds node_modules)
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import readline from 'node:readline';

const [program, folder] = process.argv.slice(2);
const { InfisicalSDK } = createRequire(`${folder}/`)('@infisical/sdk');

const server = spawn(program, [], { stdio: ['pipe', 'pipe', 'inherit'] });
try {
  const [line] = await once(readline.createInterface({ input: server.stdout }), 'line');
  await check(JSON.parse(line));
} finally {
  server.stdin.end();
}
await once(server, 'exit');

async function check({ url, clientId, clientSecret, projectId }) {
  const nobody = new InfisicalSDK({ siteUrl: url });
  await assert.rejects(nobody.auth().universalAuth.login({ clientId, clientSecret: 'wrong' }));
  const client = new InfisicalSDK({ siteUrl: url });
  await client.auth().universalAuth.login({ clientId, clientSecret });
  await client.auth().universalAuth.renew();
  const list = (more) => client.secrets().listSecrets({
    environment: 'dev', projectId, secretPath: '/', expandSecretReferences: true, includeImports: true,
    viewSecretValue: true, ...more,
  });

  const { secrets, imports } = await list();
  const values = Object.fromEntries(secrets.map((one) => [one.secretKey, one.secretValue]));
  assert.equal(values.PLAIN, 'plain value');
  assert.equal(values.LINES, '-----BEGIN-----\nline two\r\n\ttab "quote" $HOME `id`\n-----END-----\n');
  assert.equal(values.UNICODE, 'grüße ☃ 𝄞');
  assert.equal(values.EMPTY, '');
  assert.equal(values.REFERRING, 'to plain value and two down');
  assert.equal(values.SECRET, '<hidden-by-infisical>');
  assert.deepEqual(imports.map((one) => [one.secretPath, one.secrets[0].secretValue]),
    [['/shared-one', 'earlier'], ['/shared-two', 'later']]);

  const below = (await list({ recursive: true })).secrets.map((one) => `${one.secretPath}:${one.secretKey}`);
  assert.ok(below.includes('/folder:IN_FOLDER') && below.includes('/folder/inner:DEEP'), `${below}`);
  const raw = (await list({ expandSecretReferences: false })).secrets;
  assert.equal(raw.find((one) => one.secretKey === 'REFERRING').secretValue, 'to ${PLAIN} and ${dev.folder.inner.DEEP}');
  const tagged = (await list({ tagSlugs: ['red'] })).secrets;
  assert.deepEqual(tagged.map((one) => one.secretKey), ['TAGGED']);

  const one = await client.secrets().getSecret({ environment: 'dev', projectId, secretPath: '/', secretName: 'LINES' });
  assert.equal(one.secretValue, values.LINES);
  await assert.rejects(client.secrets().getSecret({
    environment: 'dev', projectId, secretPath: '/', secretName: 'MISSING',
  }));
  await assert.rejects(list({ environment: 'nowhere' }));
}
