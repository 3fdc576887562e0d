// The console: asks the API of the daemon that served it, shows what it says.
// Whatever comes from there is text and only ever set as text: hunt ids, keys and values are anybody's input.
'use strict';

const REASONS = ['too_large', 'no_hunt', 'bad_hunt', 'not_json', 'too_deep', 'not_object', 'no_type', 'bad_time', 'ahead',
  'wrong_type', 'failed', 'state_full'];
const PAGE = 50;

const $ = id => document.getElementById(id);

/** An element; strings and elements as children, `class`, `text` and `on…` among the attributes. */
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === 'text') node.textContent = value;
    else if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children);
  return node;
}

function svg(tag, attributes, ...children) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// ---- Asking

class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `status ${status}`);
    this.status = status;
    this.problem = problem;
  }
}

/** Integers past 2^53 stay exact where the browser shows their source. */
function exact(_key, value, context) {
  return typeof value === 'number' && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source ?? '') ? BigInt(context.source) : value;
}

async function request(path, options = {}) {
  const token = sessionStorage.getItem('token');
  const headers = token ? {Authorization: `Bearer ${token}`} : {};
  const response = await fetch(path, {...options, headers, cache: 'no-store'});
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  // An answer to a question from before the token was typed in says nothing about it.
  if (response.status === 401 && token === sessionStorage.getItem('token')) askForToken();
  throw new Refused(response.status, problem);
}

async function ask(path) {
  return JSON.parse(await (await request(path)).text(), exact);
}

function query(parameters) {
  const some = Object.entries(parameters).filter(([, value]) => value !== '' && value !== null && value !== undefined);
  return new URLSearchParams(some).toString();
}

function askForToken() {
  $('token-button').hidden = false;
  if (!$('token').open && !document.querySelector('dialog[open]') && !sessionStorage.getItem('token-declined')) $('token').showModal();
}

// ---- Showing

const whole = new Intl.NumberFormat(undefined, {maximumFractionDigits: 0});
const short = new Intl.NumberFormat(undefined, {maximumSignificantDigits: 6});

function number(value) {
  if (value === null || value === undefined) return '–';
  if (typeof value === 'bigint' || Number.isInteger(value)) return whole.format(value);
  return Math.abs(value) >= 1e9 || (value !== 0 && Math.abs(value) < 1e-4) ? value.toExponential(3) : short.format(value);
}

function ago(text) {
  const seconds = (Date.now() - Date.parse(text)) / 1000;
  if (!Number.isFinite(seconds)) return '–';
  if (seconds < -5) return clock(text);
  const [amount, unit] = seconds < 60 ? [seconds, 's'] : seconds < 3600 ? [seconds / 60, 'min'] : seconds < 172800 ? [seconds / 3600, 'h'] : [seconds / 86400, 'd'];
  return `${Math.max(0, Math.floor(amount))} ${unit} ago`;
}

function clock(text) {
  const at = new Date(text);
  if (Number.isNaN(at.getTime())) return text;
  const day = at.toDateString() === new Date().toDateString();
  const time = {hour: '2-digit', minute: '2-digit', second: at.getSeconds() ? '2-digit' : undefined, hourCycle: 'h23'};
  return at.toLocaleString(undefined, day ? time : {day: 'numeric', month: 'short', year: 'numeric', ...time});
}

function moment(text) {
  return el('time', {datetime: text ?? false, title: text ?? false, text: text ? ago(text) : '–'});
}

function fact(name, value) {
  return el('div', {}, el('dt', {text: name}), el('dd', {}, value));
}

function pill(node, text, kind) {
  node.hidden = false;
  node.className = `pill ${kind}`;
  node.textContent = text;
}

const STATUS_KIND = {live: 'good', lagging: 'warn', parked: 'bad', running: 'good', claiming: 'warn', releasing: 'warn', tripped: 'bad', halted: 'bad', unclaimed: 'warn'};

function note(id, text) {
  $(id).hidden = !text;
  $(id).textContent = text ?? '';
}

/** Why something could not be shown, in a reader's words. */
function excuse(error) {
  if (error instanceof Refused) return error.status === 401 ? 'A token is needed to see this.' : error.message;
  return 'The daemon does not answer.';
}

// ---- Readiness, totals, partitions

async function showReadiness() {
  let reasons = [];
  try {
    await request('readyz');
    pill($('readiness'), 'ready', 'good');
  } catch (error) {
    const told = error instanceof Refused;
    pill($('readiness'), told ? 'not ready' : 'no answer', 'bad');
    reasons = told ? error.problem.reasons ?? [] : [];
  }
  $('reasons').hidden = reasons.length === 0;
  $('reasons').replaceChildren(...reasons.map(reason => el('li', {text: reason})));
}

async function showPartitions() {
  let page;
  try {
    page = await ask('v1/partitions');
  } catch (error) {
    return note('partitions-note', excuse(error));
  }
  const lines = page.partitions;
  const problem = page.complete ? '' : 'The store does not answer: only what this instance reads is listed.';
  note('partitions-note', lines.length ? problem : problem || 'No partition was ever claimed.');
  const sum = of => lines.reduce((total, line) => total + (of(line) ?? 0), 0);
  const totals = [['Records', line => line.counts?.records], ['Applied', line => line.counts?.applied], ['Duplicates', line => line.counts?.duplicate],
    ['Dead letters', line => line.counts?.dead_lettered], ['Ignored', line => line.counts?.ignored], ['Held', line => line.counts?.held],
    ['Late', line => line.counts?.late], ['Lag', line => line.lag]];
  $('totals').replaceChildren(...totals.map(([name, of]) => fact(name, number(sum(of)))));
  showTripped(lines.filter(line => line.tripped !== null));
  $('partitions-rows').replaceChildren(...lines.map(line => el('tr', {},
    el('td', {class: 'id nowrap', text: `${line.topic}/${line.partition}`}),
    el('td', {}, el('span', {class: `pill ${STATUS_KIND[line.state] ?? ''}`, text: line.state})),
    el('td', {class: 'n', text: number(line.position)}),
    el('td', {class: 'n', text: number(line.end)}),
    el('td', {class: 'n', text: number(line.lag)}),
    el('td', {class: 'n', text: number(line.counts?.records)}),
    el('td', {class: 'n', text: number(line.counts?.held)}),
    el('td', {class: 'cut', title: line.advertise, text: line.owner ?? '–'}),
    el('td', {class: 'nowrap'}, moment(line.updated_at)))));
}

/** Drawn anew only when it says something new, so that a button does not vanish under a finger. */
function showTripped(lines) {
  const told = JSON.stringify(lines.map(line => [line.topic, line.partition, line.tripped]));
  if (told === showTripped.told) return;
  showTripped.told = told;
  $('tripped').hidden = lines.length === 0;
  $('tripped').replaceChildren(...lines.map(line => {
    const place = `${line.topic}/${line.partition}`;
    const said = el('span', {class: 'note', role: 'status'});
    const button = el('button', {type: 'button', 'aria-label': `Reset the breaker of ${place}`, text: 'Reset', onclick: () => resetBreaker(line, button, said)});
    return el('li', {}, el('p', {}, el('strong', {class: 'id', text: place}), ' is paused: ', line.tripped),
      el('p', {class: 'bar'}, button, said));
  }));
}

async function resetBreaker(line, button, said) {
  button.disabled = true;
  said.textContent = 'Asking its owner…';
  try {
    const response = await request(`v1/partitions/${encodeURIComponent(line.topic)}/${line.partition}/reset?wait=5s`, {method: 'POST'});
    const act = await response.json();
    said.textContent = act.done ? `Done: ${act.result}` : 'Asked; its owner has not done it yet.';
  } catch (error) {
    if (error.status === 403) $('token-button').hidden = false;
    said.textContent = excuse(error);
  }
  button.disabled = false;
  showPartitions();
}

// ---- The rollup

async function showRollup() {
  try {
    const {view, updated_at} = await ask('v1/rollup');
    const cards = cardsOf(view, rollup.view);
    rollup.view = view;
    $('rollup').hidden = Object.keys(view).length === 0;
    $('rollup-view').replaceChildren(...cards);
    $('rollup-saved').replaceChildren(...(updated_at ? ['saved ', moment(updated_at)] : ['nothing saved yet']));
    note('rollup-note', '');
  } catch (error) {
    note('rollup-note', excuse(error));
  }
}

const rollup = {view: {}};

// ---- Hunts

const hunts = {cursors: [null], next: null, asked: 0};

async function showHunts() {
  const asked = ++hunts.asked;
  const status = $('status').value;
  try {
    const page = await ask(`v1/hunts?${query({limit: PAGE, status, cursor: hunts.cursors.at(-1)})}`);
    // A slower answer to an earlier question says nothing any more.
    if (asked !== hunts.asked) return;
    hunts.next = page.next;
    note('hunts-note', page.hunts.length ? '' : status ? `No hunt is ${status}.` : 'No hunt has applied an event yet.');
    const focused = document.activeElement?.getAttribute('href');
    $('hunts-list').replaceChildren(...page.hunts.map(huntLine));
    if (focused?.startsWith('#hunt=')) [...$('hunts-list').querySelectorAll('a')].find(a => a.getAttribute('href') === focused)?.focus({preventScroll: true});
    if (hunt.id === null && page.hunts.length) followHunt(page.hunts[0].hunt_id);
  } catch (error) {
    note('hunts-note', excuse(error));
  }
  $('hunts-back').disabled = hunts.cursors.length === 1;
  $('hunts-next').disabled = hunts.next === null;
}

function huntLine(line) {
  const status = line.status === 'live' ? [] : [el('span', {class: `pill ${STATUS_KIND[line.status]}`, text: line.status})];
  return el('li', {}, el('a', {href: `#hunt=${encodeURIComponent(line.hunt_id)}`, 'aria-current': line.hunt_id === hunt.id && 'true', title: line.hunt_id},
    el('span', {class: 'id', dir: 'auto', text: line.hunt_id}),
    el('span', {class: 'n', text: number(line.events)}),
    el('small', {}, 'last event ', moment(line.last_event_at), ...status)));
}

function turnPage(change) {
  change();
  showHunts();
}

// ---- One hunt, followed

const hunt = {id: null, abort: null, view: null};

async function followHunt(id) {
  hunt.abort?.abort();
  const abort = hunt.abort = new AbortController();
  hunt.id = id;
  hunt.view = null;
  $('hunt-title').textContent = id;
  $('hunt-title').className = 'id';
  document.title = `${id} · Huntline`;
  for (const part of ['hunt-status', 'hunt-facts', 'hunt-partials']) $(part).hidden = true;
  $('hunt-view').replaceChildren();
  for (const a of $('hunts-list').querySelectorAll('a')) {
    if (a.getAttribute('href') === `#hunt=${encodeURIComponent(id)}`) a.setAttribute('aria-current', 'true');
    else a.removeAttribute('aria-current');
  }
  note('hunt-note', 'Asking…');

  for (let wait = 1000; !abort.signal.aborted; wait = Math.min(wait * 2, 15000)) {
    try {
      const response = await request(`v1/hunts?${query({id, stream: true})}`, {signal: abort.signal});
      linked(true, 'following');
      wait = 500;
      for await (const view of events(response.body)) showHunt(view);
    } catch (error) {
      if (abort.signal.aborted) return;
      if (error instanceof Refused && !hunt.view) note('hunt-note', error.status === 404 ? 'No event of this hunt was ever applied.' : excuse(error));
    }
    if (abort.signal.aborted) return;
    linked(false, hunt.view ? 'connecting again…' : '');
    await new Promise(resolve => setTimeout(resolve, wait));
  }
}

function linked(on, text) {
  $('hunt-link').className = on ? 'link on' : 'link';
  $('hunt-link').textContent = text;
}

/** The data of server-sent events, parsed. (`EventSource` could not send a token.) */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const {done, value} = await reader.read();
    if (done) return;
    const blocks = (rest + value).split('\n\n');
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split('\n').filter(line => line.startsWith('data: ')).map(line => line.slice(6)).join('\n');
      if (data) yield JSON.parse(data, exact);
    }
  }
}

function showHunt(view) {
  const before = hunt.view?.view ?? {};
  hunt.view = view;
  note('hunt-note', '');
  pill($('hunt-status'), view.status, STATUS_KIND[view.status]);
  $('hunt-facts').hidden = $('hunt-partials').hidden = false;
  $('hunt-facts').replaceChildren(fact('Events', number(view.events)), fact('First event', moment(view.first_event_at)),
    fact('Last event', moment(view.last_event_at)), fact('Watermark', moment(view.watermark)));
  $('hunt-view').replaceChildren(...cardsOf(view.view, before));
  $('hunt-partials').replaceChildren(...view.partials.map(partial =>
    el('li', {text: `${partial.topic}/${partial.partition} · position ${number(partial.position)} · ${partial.source}${partial.status === 'live' ? '' : ` · ${partial.status}`}`})));
}

/** The aggregates of a view: numbers first, then what takes more room. */
function cardsOf(view, before) {
  const cards = Object.entries(view).map(([name, value]) => card(name, value, before[name]));
  const wide = cards.filter(card => card.classList.contains('wide'));
  const narrow = cards.filter(card => !wide.includes(card));
  return [...(narrow.length ? [el('div', {class: 'cards'}, ...narrow)] : []), ...(wide.length ? [el('div', {class: 'cards tables'}, ...wide)] : [])];
}

/** An aggregate, by the shape of its value: the API does not name its kind. */
function card(name, value, before) {
  const title = el('h3', {text: name.replaceAll('_', ' '), title: name});
  const all = member => Array.isArray(value) && value.length > 0 && value.every(item => item !== null && typeof item === 'object' && member.every(key => key in item));
  if (Array.isArray(value) && value.length === 0) return el('div', {class: 'card'}, title, el('p', {class: 'big none', text: 'nothing yet'}));
  if (all(['start', 'end', 'value'])) return el('div', {class: 'card wide'}, title, ...windows(value));
  if (all(['key', 'value'])) return el('div', {class: 'card wide'}, title, ranking(value.map(({key, value, error}) => [key, value, error])));
  if (all(['stage', 'count'])) return el('div', {class: 'card wide'}, title, ranking(value.map(({stage, count, error}) => [stage, count, error])));
  const quantiles = value !== null && typeof value === 'object' && Object.keys(value).length > 0 && Object.keys(value).every(key => /^p\d+(\.\d+)?$/.test(key));
  if (quantiles) return el('div', {class: 'card wide'}, title, el('dl', {class: 'facts'}, ...Object.entries(value).map(([rank, of]) => fact(rank, number(of)))));
  return el('div', {class: 'card'}, title, plain(value, before));
}

function plain(value, before) {
  const fresh = before !== undefined && before !== value ? ' fresh' : '';
  if (value === null) return el('p', {class: 'big none', text: '–'});
  if (typeof value === 'number' || typeof value === 'bigint') {
    const text = number(value);
    return el('p', {class: `big${text.length > 8 ? ' long' : ''}${fresh}`, text, title: String(value)});
  }
  return el('p', {class: 'big words', dir: 'auto', text: typeof value === 'string' ? value : JSON.stringify(value, (_, part) => typeof part === 'bigint' ? String(part) : part)});
}

/** Rows of name and number, each with a bar of its share of the greatest. */
function ranking(rows) {
  const greatest = Math.max(...rows.map(([, value]) => Math.abs(Number(value))), 0);
  return el('table', {}, el('tbody', {}, ...rows.map(([name, value, error]) => {
    const bar = el('span');
    bar.style.width = `${greatest > 0 ? Math.round(100 * Math.abs(Number(value)) / greatest) : 0}%`;
    return el('tr', {}, el('td', {class: 'share', dir: 'auto'}, bar, String(name)),
      el('td', {class: 'n', text: error === undefined ? number(value) : `${number(value)} ± ${number(error)}`}));
  })));
}

function windows(list) {
  const newest = list.at(-1);
  // Windows of the rollup do not say whether they are final.
  const state = newest.final === undefined ? '' : newest.final ? ', final' : ', open';
  const span = `${clock(newest.start)} – ${clock(newest.end)}${state}`;
  const numeric = list.every(({value}) => value === null || typeof value === 'number' || typeof value === 'bigint');
  if (!numeric) {
    const inner = card('', newest.value);
    inner.firstChild.remove();
    return [el('p', {class: 'note', text: `Newest of ${list.length}: ${span}`}), ...inner.childNodes];
  }
  const greatest = Math.max(...list.map(({value}) => Math.abs(Number(value))), 0);
  const width = 100 / Math.max(list.length, 12);
  const bars = list.map(({start, value, final}, n) => {
    const height = greatest > 0 ? Math.max(1, 36 * Math.abs(Number(value)) / greatest) : 1;
    return svg('rect', {x: n * width, y: 36 - height, width: width * .8, height, class: final === false ? 'open' : ''},
      svg('title', {}, `${clock(start)}: ${number(value)}${final === false ? ' (open)' : ''}`));
  });
  const chart = svg('svg', {viewBox: '0 0 100 36', preserveAspectRatio: 'none', class: 'chart', role: 'img',
    'aria-label': `${list.length} windows, the newest ${number(newest.value)}`}, ...bars);
  return [el('p', {class: 'big', text: number(newest.value)}), el('p', {class: 'axis'}, el('span', {text: span})), chart,
    el('p', {class: 'axis'}, el('span', {text: `from ${clock(list[0].start)}`}), el('span', {text: `greatest ${number(greatest)}`}))];
}

// ---- Dead letters

const letters = {next: null, asked: 0};

async function showLetters(more = false) {
  const asked = ++letters.asked;
  try {
    const page = await ask(`v1/dead-letters?${query({limit: PAGE, reason: $('letters-reason').value, state: $('letters-state').value, cursor: more ? letters.next : null})}`);
    if (asked !== letters.asked) return;
    letters.next = page.next;
    const rows = page.dead_letters.map(letterRow);
    if (more) $('letters-rows').append(...rows);
    else $('letters-rows').replaceChildren(...rows);
    note('letters-note', $('letters-rows').childElementCount ? '' : 'None.');
  } catch (error) {
    note('letters-note', excuse(error));
  }
  $('letters-more').hidden = letters.next === null;
}

function letterRow(letter) {
  const place = `${letter.topic}/${letter.partition}/${letter.offset}`;
  const hunt = letter.hunt_id === null ? '–' : el('a', {class: 'id', dir: 'auto', href: `#hunt=${encodeURIComponent(letter.hunt_id)}`, text: letter.hunt_id});
  return el('tr', {},
    el('td', {class: 'id nowrap', text: place}),
    el('td', {class: 'nowrap', text: letter.reason}),
    el('td', {class: 'cut', text: letter.contents?.detail ?? '–', title: letter.contents?.detail}),
    el('td', {class: 'cut'}, hunt),
    el('td', {text: letter.state}),
    el('td', {class: 'nowrap'}, moment(letter.failed_at)),
    el('td', {class: 'n'}, el('button', {type: 'button', 'aria-label': `Show ${place}`, text: 'Show', onclick: () => showLetter(letter, place)})));
}

async function showLetter(letter, place) {
  $('letter-title').textContent = place;
  $('letter-body').replaceChildren(el('p', {class: 'note', text: 'Asking…'}));
  $('letter').showModal();
  try {
    const whole = await ask(`v1/dead-letters/${encodeURIComponent(letter.topic)}/${letter.partition}/${letter.offset}`);
    const facts = el('dl', {class: 'facts'}, fact('Reason', whole.reason), fact('State', whole.state), fact('Record', whole.record_at ?? '–'), fact('Failed', whole.failed_at));
    const contents = whole.contents;
    if (!contents) return $('letter-body').replaceChildren(facts, el('p', {class: 'note', text: 'Its contents need an admin token.'}));
    const blob = (name, of) => [el('h3', {text: of ? `${name}, ${number(of.bytes)} bytes${of.text === null ? ', base64' : ''}` : `${name}: null`}), ...(of ? [el('pre', {text: of.text ?? of.base64})] : [])];
    const headers = contents.headers.map(([name, value]) => `${name}: ${value ?? 'null'}`).join('\n');
    $('letter-body').replaceChildren(facts, el('p', {text: contents.detail}), ...blob('Key', contents.key), ...blob('Value', contents.value),
      ...(headers ? [el('h3', {text: 'Headers, base64'}), el('pre', {text: headers})] : []));
  } catch (error) {
    $('letter-body').replaceChildren(el('p', {class: 'note', text: excuse(error)}));
  }
}

// ---- Wiring

/** Asks now and then every so often, one question at a time, and not while nobody looks. */
function every(milliseconds, show) {
  const turn = async () => {
    if (!document.hidden) await show();
    setTimeout(turn, milliseconds);
  };
  turn();
}

function chosenHunt() {
  const match = /^#hunt=(.+)$/.exec(location.hash);
  if (!match) return null;
  try {
    return decodeURIComponent(match[1]);
  } catch {
    return null;
  }
}

function openChosen() {
  const id = chosenHunt();
  if (id !== null && id !== hunt.id) {
    followHunt(id);
    // Stacked, the hunt is below the list.
    if (matchMedia('(max-width: 52rem)').matches) $('hunt').scrollIntoView();
  }
}

$('letters-reason').append(...REASONS.map(reason => el('option', {text: reason})));
addEventListener('hashchange', openChosen);
$('open').addEventListener('submit', event => {
  event.preventDefault();
  location.hash = `#hunt=${encodeURIComponent($('open-id').value)}`;
});
$('status').addEventListener('change', () => turnPage(() => { hunts.cursors = [null]; }));
$('hunts-back').addEventListener('click', () => turnPage(() => hunts.cursors.pop()));
$('hunts-next').addEventListener('click', () => turnPage(() => hunts.cursors.push(hunts.next)));
$('letters-reason').addEventListener('change', () => showLetters());
$('letters-state').addEventListener('change', () => showLetters());
$('letters-more').addEventListener('click', () => showLetters(true));
$('token-button').addEventListener('click', () => $('token').showModal());
$('token').addEventListener('close', () => {
  const value = $('token-value').value.trim();
  $('token-value').value = '';
  if (!value) return sessionStorage.setItem('token-declined', 'yes');
  sessionStorage.setItem('token', value);
  sessionStorage.removeItem('token-declined');
  $('token-button').hidden = true;
  showPartitions();
  showRollup();
  showHunts();
  showLetters();
  if (hunt.id !== null) followHunt(hunt.id);
});

openChosen();
every(5000, showReadiness);
every(2000, showPartitions);
every(5000, showRollup);
every(5000, showHunts);
// Only the first page refreshes by itself: a reader who went further keeps their place.
every(10000, () => $('letters-rows').childElementCount > PAGE ? undefined : showLetters());
