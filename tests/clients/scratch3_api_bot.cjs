// A bot of scratch3-api's that keeps games, by one connection: it answers each request in "☁ request" by
// the same number in "☁ saved" and empties the request. It says each request that it hears of.
//   node scratch3_api_bot.cjs URL
const path = require('path');

const modules = path.join(__dirname, '../../target/clients/node-2/node_modules');
// It knows TurboWarp's own server only.
const WebSocket = require(path.join(modules, 'ws'));
require.cache[require.resolve(path.join(modules, 'ws'))].exports = class extends WebSocket {
  constructor(_, protocols, options) {
    super(process.argv[2], protocols, options);
  }
};
const { CloudSession } = require(path.join(modules, 'scratch3-api'));

const main = async () => {
  const cloud = await CloudSession.create({ username: 'saver' }, 60917032, true);
  cloud.on('set', (name, value) => {
    if (name !== '\u2601 request') return;
    console.log(`event ${value}`);
    if (Number(value) !== 0) cloud.set('\u2601 saved', value);
    cloud.set('\u2601 request', '0');
  });
  console.log('ready');
};

main();
