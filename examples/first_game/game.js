import { connect } from './cloud/client.js';

const name = new URLSearchParams(location.search).get('name') || prompt('Your name?');
const variables = { [`p_${name}`]: '0 0', star: '0 0', score: '0' };
const cloud = connect('./cloud', { room: 'meadow', username: name, variables });
const { vars } = cloud;

const line = document.getElementById('line');
cloud.on('close', ({ reason, reconnecting }) => {
  line.textContent = reconnecting ? `Reconnecting… ${reason}` : reason;
});

const meadow = document.getElementById('meadow');
meadow.onpointermove = ({ offsetX, offsetY }) => {
  vars[`p_${name}`] = `${Math.round(offsetX)} ${Math.round(offsetY)}`;
};
meadow.onpointerdown = ({ offsetX, offsetY }) => {
  const [x, y] = vars.star.split(' ');
  if (Math.hypot(x - offsetX, y - offsetY) < 20) cloud.update('score', (old) => Number(old) + 1);
};

const pen = meadow.getContext('2d');
pen.font = '20px system-ui';
(function draw() {
  requestAnimationFrame(draw);
  if (cloud.connected) line.textContent = `${vars.score} stars`;
  pen.clearRect(0, 0, meadow.width, meadow.height);
  pen.fillText('⭐', ...vars.star.split(' ').map((at) => at - 10));
  for (const [key, place] of Object.entries(vars)) {
    if (key.startsWith('p_') && place) pen.fillText(`🙂 ${key.slice(2)}`, ...place.split(' '));
  }
})();
