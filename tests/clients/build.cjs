// Makes a Scratch project with cloud variables, and the pages that play it:
//   node build.cjs FOLDER CLOUD_HOST
const fs = require('fs');
const path = require('path');

const clients = path.join(__dirname, '../../target/clients');
const modules = path.join(clients, 'node-1/node_modules');
const JSZip = require(path.join(modules, '@turbowarp/jszip'));
const Packager = require(path.join(modules, '@turbowarp/packager'));

const [folder, cloudHost] = process.argv.slice(2);
const costume = '<svg xmlns="http://www.w3.org/2000/svg" width="2" height="2"/>';
const costumeId = '14e46ec3e2ba471c2adfe8f119052307';

// When the flag is clicked, for ever: ask, then set "☁ text" to the answer and "☁ number" to 1 × it.
const block = (opcode, parent, next, more) => ({
  opcode, parent, next, inputs: {}, fields: {}, shadow: false, topLevel: parent === null, ...more,
});
const project = {
  targets: [{
    isStage: true,
    name: 'Stage',
    variables: {
      t: ['☁ text', 0, true],
      n: ['☁ number', 0, true],
      l: ['local', 0],
    },
    lists: {},
    broadcasts: {},
    blocks: {
      flag: block('event_whenflagclicked', null, 'ever', { x: 0, y: 0 }),
      ever: block('control_forever', 'flag', null, { inputs: { SUBSTACK: [2, 'ask'] } }),
      ask: block('sensing_askandwait', 'ever', 'text', { inputs: { QUESTION: [1, [10, '?']] } }),
      text: block('data_setvariableto', 'ask', 'number', {
        inputs: { VALUE: [3, 'answer', [10, '']] }, fields: { VARIABLE: ['☁ text', 't'] },
      }),
      answer: block('sensing_answer', 'text', null, {}),
      number: block('data_setvariableto', 'text', null, {
        inputs: { VALUE: [3, 'times', [10, '']] }, fields: { VARIABLE: ['☁ number', 'n'] },
      }),
      times: block('operator_multiply', 'number', null, {
        inputs: { NUM1: [1, [4, '1']], NUM2: [3, 'again', [4, '']] },
      }),
      again: block('sensing_answer', 'times', null, {}),
    },
    comments: {},
    currentCostume: 0,
    costumes: [{
      name: 'nothing', assetId: costumeId, md5ext: `${costumeId}.svg`, dataFormat: 'svg',
      rotationCenterX: 1, rotationCenterY: 1,
    }],
    sounds: [],
    volume: 100,
    layerOrder: 0,
    tempo: 60,
    videoTransparency: 50,
    videoState: 'off',
    textToSpeechLanguage: null,
  }],
  monitors: [],
  extensions: [],
  meta: { semver: '3.0.0', vm: '0.2.0', agent: '' },
};

// When the flag is clicked, for ever: set ten variables to the time, each frame, as games do.
const names = Array.from({ length: 10 }, (_, n) => `v${n}`);
const setters = Object.fromEntries(names.flatMap((name, n) => [
  [name, block('data_setvariableto', n === 0 ? 'ever' : names[n - 1], names[n + 1] ?? null, {
    inputs: { VALUE: [3, `${name} ms`, [10, '']] }, fields: { VARIABLE: [`☁ ${name}`, name] },
  })],
  [`${name} ms`, block('operator_multiply', name, null, {
    inputs: { NUM1: [3, `${name} days`, [4, '']], NUM2: [1, [4, '86400000']] },
  })],
  [`${name} days`, block('sensing_dayssince2000', `${name} ms`, null, {})],
]));
const frames = structuredClone(project);
frames.targets[0].variables = Object.fromEntries(names.map((name) => [name, [`☁ ${name}`, 0, true]]));
frames.targets[0].blocks = {
  flag: block('event_whenflagclicked', null, 'ever', { x: 0, y: 0 }),
  ever: block('control_forever', 'flag', null, { inputs: { SUBSTACK: [2, 'v0'] } }),
  ...setters,
};

const zip = async (project) => {
  const file = new JSZip();
  file.file('project.json', JSON.stringify(project));
  file.file(`${costumeId}.svg`, costume);
  return file.generateAsync({ type: 'nodebuffer' });
};

const packaged = async (sb3, username) => {
  const packager = new Packager.Packager();
  packager.project = await Packager.loadProject(sb3);
  Object.assign(packager.options, { username, projectId: 'packaged', autoplay: true });
  packager.options.cloudVariables.cloudHost = cloudHost;
  return (await packager.package()).data;
};

const main = async () => {
  const sb3 = await zip(project);
  const write = (name, data) => fs.writeFileSync(path.join(folder, name), data);
  write('frames.sb3', await zip(frames));
  write('project.sb3', sb3);
  // Where Scratch's player looks for a project.
  fs.mkdirSync(path.join(folder, 'projects'));
  for (const id of ['1', 'packaged']) write(`projects/${id}`, sb3);
  write('packaged.html', await packaged(sb3, 'player####'));
  write('refused.html', await packaged(sb3, 'admin'));
  for (const page of ['scaffolding.html', 'scratch.html']) {
    fs.copyFileSync(path.join(__dirname, page), path.join(folder, page));
  }
  for (const script of [
    'scaffolding-0.4.0/dist/scaffolding-min.js',
    'scratch-gui-5.3.0/dist/scratch-gui.js',
    'node-1/node_modules/react/umd/react.production.min.js',
    'node-1/node_modules/react-dom/umd/react-dom.production.min.js',
  ]) {
    fs.symlinkSync(path.join(clients, script), path.join(folder, path.basename(script)));
  }
};

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
