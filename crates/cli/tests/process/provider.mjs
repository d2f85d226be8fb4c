// A real OpenID provider for the tests: two people, their groups, one client. Says where it is.
import { createServer } from 'node:http';
import { pathToFileURL } from 'node:url';

const { default: Provider } = await import(pathToFileURL(`${process.argv[2]}/oidc-provider/lib/index.js`).href);

const people = {
  alice: { preferred_username: 'alice', name: 'Alice A.', email: 'alice@corp.example', email_verified: true, groups: ['Operators', 'Everyone'] },
  bob: { preferred_username: 'bob', name: 'Bob B.', email: 'bob@corp.example', email_verified: true, groups: ['Everyone'] },
};
const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [{
      client_id: 'intended',
      client_secret: 'the-client-s-secret',
      application_type: 'native',
      redirect_uris: ['http://127.0.0.1/callback'],
      token_endpoint_auth_method: 'client_secret_basic',
    }],
    claims: { openid: ['sub'], profile: ['preferred_username', 'name'], email: ['email', 'email_verified'], groups: ['groups'] },
    conformIdTokenClaims: false,
    cookies: { keys: ['only for tests'] },
    findAccount: (_, id) => people[id] && ({ accountId: id, claims: () => ({ sub: `subject-${id}`, ...people[id] }) }),
    pkce: { required: () => true },
  });
  server.on('request', provider.callback());
  console.log(`ready at ${issuer} `);
});
