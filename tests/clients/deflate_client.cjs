// A member by the ws package with its default offer, which says what was agreed, and answers questions.

const WebSocket = require('../../target/clients/node-2/node_modules/ws');

const socket = new WebSocket(process.argv[2], { perMessageDeflate: { threshold: 0 } });
socket.on('open', () => {
  console.log('agreed', socket.extensions);
  const variables = { question: '', answer: '' };
  socket.send(JSON.stringify({ kind: 'handshake', room: 'arena', username: 'node', variables }));
});
socket.on('message', (frame) => {
  for (const line of frame.toString().split('\n')) {
    const { variable, value } = JSON.parse(line);
    if (variable === 'question') {
      socket.send(JSON.stringify({ kind: 'set', variable: 'answer', value }));
    }
  }
});
