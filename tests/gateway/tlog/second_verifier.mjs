// A second verifier of the audit trail, written from gateway/tlog/FORMAT.md alone and in another language.
//
//   node second_verifier.mjs PLACE [--key VKEY]... [--witness VKEY]... [--witnesses-required N] [--kept FILE]... [--json]
//   node second_verifier.mjs --batch [the same options]      folders on standard input, one line of JSON each on standard output
//
// It shares nothing with the gateway but that page: what both say of the same bytes is what the page says, or one of the three is wrong. Section names
// of the page stand over the parts. Only Node's own modules; every file is read in bounded pieces; no byte on the disk throws past `verify`.
// Exit: 0 nothing wrong, 1 something wrong, 2 wrong usage.

import { createPublicKey, hash, verify as signatureHolds } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const STREAM_NAME = /^[a-z0-9][A-Za-z0-9._-]{0,127}$/;
const HEX64 = /^[0-9a-f]{64}$/;
const CALL_ID = /^[0-9a-f]{32}$/;
const DECIMAL = /^(0|[1-9][0-9]*)$/;
const RECORD_MAX = 65_535;
const HEADER_MAX = 1_048_576;
const NOTE_CODE_POINTS = 131_072;
const SIGNATURES = 64;
const STATEMENTS = 1_024;
const KEYS_MAX = 1_048_576;
const ENDED_MAX = 4_096;
const KEY_CHARACTERS = 4_096;
const ADOPTED_MAX = 1_048_576;
const EXTRA_MAX = 65_536;
const DEPTH = 1_024;
const TILE = 256;
const INT63 = (1n << 63n) - 1n;

// A problem of one log; thrown and caught inside this file.
class Bad extends Error {
  constructor(text, record = null) {
    super(text);
    this.record = record;
  }
}

class Usage extends Error {}

// -- files, in bounded pieces ----------------------------------------------------------------------------------------------------------------------

// What is at a path, or null: that it is not there is an answer, that it cannot be looked at is none.
function lookAt(where) {
  try {
    return fs.statSync(where);
  } catch (error) {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return null;
    throw error;
  }
}

const isFolder = (where) => lookAt(where)?.isDirectory() ?? false;
const isFile = (where) => lookAt(where)?.isFile() ?? false;

// The first `limit` + 1 bytes of a regular file, or null: a reader that gets more than `limit` knows that there is more.
function readFile(where, limit) {
  if (!isFile(where)) return null;
  const file = new Pieces(where);
  try {
    return Buffer.from(file.at(0, Math.min(limit + 1, file.size)));
  } finally {
    file.close();
  }
}

// A file read through a window, so that a segment of any size costs little memory.
class Pieces {
  constructor(where) {
    this.fd = fs.openSync(where, 'r');
    this.size = fs.fstatSync(this.fd).size;
    this.from = 0;
    this.window = Buffer.alloc(0);
  }

  at(offset, length) {
    if (offset < this.from || offset + length > this.from + this.window.length) {
      const wanted = Math.min(Math.max(length, 1 << 18), Math.max(this.size - offset, 0));
      const fresh = Buffer.allocUnsafe(wanted);
      let have = 0;
      while (have < wanted) {
        const got = fs.readSync(this.fd, fresh, have, wanted - have, offset + have);
        if (got === 0) break;
        have += got;
      }
      this.from = offset;
      this.window = fresh.subarray(0, have);
    }
    return this.window.subarray(offset - this.from, offset - this.from + length);
  }

  close() {
    fs.closeSync(this.fd);
  }
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function utf8(bytes) {
  try {
    return UTF8.decode(bytes);
  } catch {
    return null;
  }
}

// -- JSON, as the page has it: integers told from other numbers, no lone surrogates, a bounded depth ------------------------------------------------

// A number that is no integer within +-(2^53 - 1); `whole` is there if it was written as an integer all the same.
class Other {
  constructor(whole) {
    this.whole = whole;
  }
}

const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;
const PLAIN = /[^"\\\u0000-\u001f]*/y;
const SPACE = /[ \t\n\r]*/y;
const ESCAPES = { '"': '"', '\\': '\\', '/': '/', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' };

class Json {
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  static read(bytes) {
    const text = utf8(bytes);
    if (text === null) throw new Bad('it is not UTF-8');
    const parser = new Json(text);
    const value = parser.value(0);
    parser.space();
    if (parser.at !== text.length) throw new Bad('bytes follow the JSON value');
    return value;
  }

  take(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (found !== null) this.at += found[0].length;
    return found;
  }

  space() {
    this.take(SPACE);
  }

  value(depth) {
    this.space();
    const first = this.text[this.at];
    if (first === '{' || first === '[') {
      if (depth >= DEPTH) throw new Bad(`its JSON is nested deeper than ${DEPTH}`);
      this.at += 1;
      return first === '{' ? this.object(depth + 1) : this.array(depth + 1);
    }
    if (first === '"') {
      this.at += 1;
      return this.string();
    }
    for (const [word, value] of [['true', true], ['false', false], ['null', null]]) {
      if (this.text.startsWith(word, this.at)) {
        this.at += word.length;
        return value;
      }
    }
    return this.number();
  }

  number() {
    const found = this.take(NUMBER);
    if (found === null) throw new Bad('it is not JSON');
    const value = Number(found[0]);
    if (!Number.isFinite(value)) throw new Bad('a number in it is no double');
    if (found[1] !== undefined || found[2] !== undefined) return new Other(null);
    if (Number.isSafeInteger(value)) return value;
    return new Other(found[0].length <= 20 ? BigInt(found[0]) : null);
  }

  object(depth) {
    const members = new Map();
    this.space();
    if (this.text[this.at] === '}') {
      this.at += 1;
      return members;
    }
    for (;;) {
      this.space();
      if (this.text[this.at] !== '"') throw new Bad('it is not JSON');
      this.at += 1;
      const name = this.string();
      this.space();
      if (this.text[this.at] !== ':') throw new Bad('it is not JSON');
      this.at += 1;
      members.set(name, this.value(depth));
      if (this.closes('}')) return members;
    }
  }

  array(depth) {
    const items = [];
    this.space();
    if (this.text[this.at] === ']') {
      this.at += 1;
      return items;
    }
    for (;;) {
      items.push(this.value(depth));
      if (this.closes(']')) return items;
    }
  }

  closes(bracket) {
    this.space();
    const next = this.text[this.at];
    this.at += 1;
    if (next !== bracket && next !== ',') throw new Bad('it is not JSON');
    return next === bracket;
  }

  string() {
    let whole = '';
    for (;;) {
      whole += this.take(PLAIN)[0];
      const next = this.text[this.at];
      this.at += 1;
      if (next === '"') break;
      if (next !== '\\') throw new Bad('it is not JSON');
      const letter = this.text[this.at];
      this.at += 1;
      if (letter === 'u') {
        const digits = this.text.slice(this.at, this.at + 4);
        if (!/^[0-9a-fA-F]{4}$/.test(digits)) throw new Bad('it is not JSON');
        this.at += 4;
        whole += String.fromCharCode(parseInt(digits, 16));
      } else if (letter !== undefined && Object.hasOwn(ESCAPES, letter)) {
        whole += ESCAPES[letter];
      } else {
        throw new Bad('it is not JSON');
      }
    }
    if (!whole.isWellFormed()) throw new Bad('it has a lone surrogate');
    return whole;
  }
}

const isInteger = (value) => typeof value === 'number';
const isCount = (value) => isInteger(value) && value >= 0;

// -- Tree ------------------------------------------------------------------------------------------------------------------------------------------

const sha256 = (...parts) => hash('sha256', Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : part))), 'buffer');
const LEAF = Buffer.from([0]);
const NODE = Buffer.from([1]);
const NOTHING = sha256();
const leafHash = (payload) => sha256(LEAF, payload);
const nodeHash = (left, right) => sha256(NODE, left, right);

// The root over complete subtrees, largest first.
const rootOf = (hashes) => (hashes.length === 0 ? NOTHING : hashes.reduceRight((right, left) => nodeHash(left, right)));

class Tree {
  constructor() {
    this.stack = []; // complete subtrees, largest first: [height, hash]
  }

  // Adds a leaf; gives the hashes of the subtrees of height 8, 16, ... that it completes.
  append(leaf) {
    const levels = [];
    let height = 0;
    let hash = leaf;
    while (this.stack.length > 0 && this.stack.at(-1)[0] === height) {
      hash = nodeHash(this.stack.pop()[1], hash);
      height += 1;
      if (height % 8 === 0) levels.push(hash);
    }
    this.stack.push([height, hash]);
    return levels;
  }

  root() {
    return rootOf(this.stack.map(([, hash]) => hash));
  }

  frontier() {
    return this.stack.map(([, hash]) => hash.toString('hex'));
  }
}

// RFC 9162, section 2.1.3.2.
function leadsTo(leaf, index, size, hashes, root) {
  if (index >= size) return false;
  let fn = index;
  let sn = size - 1n;
  let hash = leaf;
  for (const other of hashes) {
    if (sn === 0n) return false;
    if (fn & 1n || fn === sn) {
      hash = nodeHash(other, hash);
      while (!(fn & 1n) && fn !== 0n) {
        fn >>= 1n;
        sn >>= 1n;
      }
    } else {
      hash = nodeHash(hash, other);
    }
    fn >>= 1n;
    sn >>= 1n;
  }
  return sn === 0n && hash.equals(root);
}

// -- Frame, Segment --------------------------------------------------------------------------------------------------------------------------------

const MAGIC = Buffer.from('licetseg');
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let rest = byte;
  for (let bit = 0; bit < 8; bit += 1) rest = rest & 1 ? (rest >>> 1) ^ 0x82f63b78 : rest >>> 1;
  return rest >>> 0;
});

function crc32c(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

// One frame at an offset: {payload, next}, {incomplete: true}, or a Bad. `limit` is the longest payload that its place allows.
function readFrame(file, offset, format, limit) {
  const left = file.size - offset;
  const head = file.at(offset, Math.min(left, 13));
  if (left < 8) return { incomplete: true }; // a length is sound or not with its CRC alone
  const length = head.readUInt32BE(0);
  if (crc32c(head.subarray(0, 4)) !== head.readUInt32BE(4)) throw new Bad('the length of a frame is damaged');
  if (length > HEADER_MAX) throw new Bad('a frame is too long');
  if (left < 13 + length) return { incomplete: true };
  if (length > limit) throw new Bad('a frame is too long');
  const rest = file.at(offset, 13 + length);
  if (crc32c(rest.subarray(12)) !== rest.readUInt32BE(8)) throw new Bad('a frame is damaged');
  if (rest[12] !== format) throw new Bad(`a frame is of format ${rest[12]}`);
  return { payload: Buffer.from(rest.subarray(13)), next: offset + 13 + length };
}

function readHeader(file, number) {
  const magic = file.at(0, Math.min(8, file.size));
  if (!magic.equals(MAGIC.subarray(0, magic.length))) throw new Bad(`segment ${number} does not begin as one`);
  if (magic.length < 8) return { incomplete: true };
  const frame = readFrame(file, 8, 0, HEADER_MAX);
  if (frame.incomplete) return frame;
  return { header: parseHeader(Json.read(frame.payload)), next: frame.next };
}

// A header as far as it can be judged by itself.
function parseHeader(header) {
  const wrong = (what) => new Bad(`a segment's header has no ${what} that can be`);
  if (!(header instanceof Map) || header.get('v') !== 'segment.v1') throw wrong('form');
  if (typeof header.get('stream') !== 'string') throw wrong('stream');
  for (const name of ['segment', 'first_seq']) if (!isCount(header.get(name))) throw wrong(name);
  const frontier = header.get('frontier');
  if (!Array.isArray(frontier) || !frontier.every((hash) => typeof hash === 'string' && HEX64.test(hash))) throw wrong('frontier');
  const first = header.get('first_seq');
  const bits = first.toString(2).replaceAll('0', '').length;
  if (frontier.length !== bits || header.get('root') !== rootOf(frontier.map((hash) => Buffer.from(hash, 'hex'))).toString('hex')) throw wrong('root');
  if (!Array.isArray(header.get('open'))) throw wrong('open');
  let before = -1;
  for (const item of header.get('open')) {
    const fits = Array.isArray(item) && item.length === 2 && isInteger(item[0]) && item[0] > before && item[0] < first && typeof item[1] === 'string' && CALL_ID.test(item[1]);
    if (!fits) throw wrong('open');
    before = item[0];
  }
  return header;
}

const segmentName = (number) => `${String(number).padStart(8, '0')}.seg`;

// The journal of one stream, read record by record.
class Journal {
  constructor(folder, stream) {
    this.folder = folder;
    this.stream = stream;
    this.numbers = new Set();
    for (const name of fs.readdirSync(folder)) {
      if (/^[0-9]{8}\.seg$/.test(name) && Number(name.slice(0, 8)) > 0 && isFile(path.join(folder, name))) this.numbers.add(Number(name.slice(0, 8)));
    }
    this.last = Math.max(0, ...this.numbers);
    this.first = this.numbers.size === 0 ? 0 : Math.min(...this.numbers);
    this.number = 0; // of the open segment
    this.file = null;
    this.offset = 0;
    this.begin = 0; // j
    this.missing = false; // a segment is missing at `begin`
    this.over = false;
    this.torn = false;
    this.ended = readFile(path.join(folder, 'ended'), ENDED_MAX);
  }

  // Finds where the journal of a pruned log begins.
  startAfterPruning(minimum) {
    if (minimum === 0) return;
    if (this.first > 1) {
      const file = new Pieces(path.join(this.folder, segmentName(this.first)));
      let opened;
      try {
        opened = readHeader(file, this.first);
      } finally {
        file.close();
      }
      if (opened.incomplete) throw new Bad(`the header of segment ${this.first} is incomplete`);
      this.begin = opened.header.get('first_seq');
      this.number = this.first - 1;
      if (this.begin > minimum) {
        this.begin = minimum;
        this.missing = true;
      }
    } else if (this.first === 0 && this.endedValue()?.get('size') === minimum) {
      this.begin = minimum;
      this.over = true;
    }
  }

  endedValue() {
    if (this.ended === null || this.ended.length > ENDED_MAX) return null;
    try {
      const value = Json.read(this.ended);
      return value instanceof Map && isInteger(value.get('size')) && typeof value.get('root') === 'string' ? value : null;
    } catch (error) {
      if (error instanceof Bad) return null;
      throw error;
    }
  }

  // The payload of record `n`, or null where the journal is over.
  next(n, check) {
    if (this.missing) throw new Bad('a segment is missing');
    if (this.first === 0) throw new Bad('there is no segment');
    for (;;) {
      if (this.file !== null && this.offset < this.file.size) {
        const frame = readFrame(this.file, this.offset, 1, RECORD_MAX);
        if (!frame.incomplete) {
          this.offset = frame.next;
          return frame.payload;
        }
        return this.tear();
      }
      if (this.file !== null && this.number === this.last) return this.finish();
      this.close();
      this.number += 1;
      if (!this.numbers.has(this.number)) throw new Bad(`segment ${this.number} is missing`);
      this.file = new Pieces(path.join(this.folder, segmentName(this.number)));
      const opened = readHeader(this.file, this.number);
      if (opened.incomplete) {
        if (this.number === 1) throw new Bad('the header of segment 1 is incomplete');
        return this.tear();
      }
      check(opened.header, this.number);
      this.offset = opened.next;
    }
  }

  tear() {
    if (this.number !== this.last) throw new Bad(`segment ${this.number} ends inside a frame`);
    this.torn = true;
    return this.finish();
  }

  finish() {
    this.over = true;
    this.close();
    return null;
  }

  close() {
    if (this.file !== null) this.file.close();
    this.file = null;
  }
}

// -- Checkpoint ------------------------------------------------------------------------------------------------------------------------------------

function base64(text) {
  if (!/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(text)) return null;
  const bytes = Buffer.from(text, 'base64');
  return bytes.toString('base64') === text ? bytes : null; // unused bits are zero
}

const KEY_BYTES = { 1: 32, 4: 32, 6: 1312 };
const SPKI = { 1: '302a300506032b6570032100', 4: '302a300506032b6570032100', 6: '30820532300b06096086480165030403110382052100' };

function parseKey(text) {
  if ([...text].length > KEY_CHARACTERS || /[\u0000-\u001f]/.test(text)) return null;
  const found = /^([^+]+)\+([0-9a-f]{8})\+(.+)$/su.exec(text);
  if (found === null || /\p{White_Space}/u.test(found[1])) return null;
  const bytes = base64(found[3]);
  if (bytes === null || bytes.length === 0 || KEY_BYTES[bytes[0]] !== bytes.length - 1) return null;
  const id = sha256(found[1], '\n', bytes).subarray(0, 4).toString('hex');
  if (id !== found[2]) return null;
  const type = bytes[0];
  let key = null;
  try {
    key = createPublicKey({ key: Buffer.concat([Buffer.from(SPKI[type], 'hex'), bytes.subarray(1)]), format: 'der', type: 'spki' });
  } catch (error) {
    if (type !== 6) throw error; // ML-DSA is not in every Node; Ed25519 is
  }
  return { text, name: found[1], id, type, key, handle: `${found[1]}+${id}` };
}

function parseNote(bytes) {
  if (bytes === null) throw new Bad('it is missing');
  if (bytes.length > 4 * NOTE_CODE_POINTS) throw new Bad('it is too long');
  const whole = utf8(bytes);
  if (whole === null) throw new Bad('it is not UTF-8');
  let points = 0;
  for (const _ of whole) points += 1;
  if (points > NOTE_CODE_POINTS) throw new Bad('it is too long');
  if (/[\u0000-\u0009\u000b-\u001f]/.test(whole)) throw new Bad('it has control characters');
  const parted = whole.lastIndexOf('\n\n');
  if (parted < 0 || !whole.endsWith('\n') || parted + 2 === whole.length) throw new Bad('it is not a note');
  const lines = whole.slice(parted + 2, -1).split('\n');
  if (lines.length > SIGNATURES) throw new Bad('it has too many signatures');
  const signatures = lines.map((line) => {
    const found = /^\u2014 ([^ ]+) ([^ ]+)$/u.exec(line);
    const bytesOf = found === null || /\p{White_Space}|\+/u.test(found[1]) ? null : base64(found[2]);
    if (bytesOf === null || bytesOf.length < 5) throw new Bad('a signature line is not one');
    const id = bytesOf.subarray(0, 4).toString('hex');
    return { handle: `${found[1]}+${id}`, bytes: bytesOf.subarray(4) };
  });
  return { text: whole.slice(0, parted + 1), signatures };
}

function parseCheckpoint(bytes) {
  const note = parseNote(bytes);
  const lines = note.text.slice(0, -1).split('\n');
  if (lines.length < 3 || lines.includes('')) throw new Bad('its text has not three lines');
  const [origin, size, rootText] = lines;
  if (!DECIMAL.test(size) || size.length > 19 || BigInt(size) > INT63) throw new Bad('its size is not one');
  const root = base64(rootText);
  if (root === null || root.length !== 32) throw new Bad('its root is not one');
  if ((size === '0') !== root.equals(NOTHING)) throw new Bad('size 0 and the root of nothing go together');
  return { ...note, origin, size: BigInt(size), root };
}

const lengthPrefixed = (text) => {
  const bytes = Buffer.from(text);
  return Buffer.concat([Buffer.from([bytes.length]), bytes]);
};

// Whether a signature line of a known key holds; null where this Node cannot tell.
function holds(key, signature, text, head) {
  if (key.type === 1) return signature.length === 64 && signatureHolds(null, Buffer.from(text), key.key, signature);
  if (signature.length !== 8 + (key.type === 4 ? 64 : 2420)) return false;
  const time = signature.readBigUInt64BE(0);
  if (time > INT63) return false;
  if (key.type === 4) return signatureHolds(null, Buffer.from(`cosignature/v1\ntime ${time}\n${text}`), key.key, signature.subarray(8));
  if (key.key === null) return null;
  if (Buffer.byteLength(key.name) > 255 || Buffer.byteLength(head.origin) > 255) return false;
  const numbers = Buffer.alloc(16);
  numbers.writeBigUInt64BE(head.size, 8);
  const message = Buffer.concat([Buffer.from('subtree/v1\n\0'), lengthPrefixed(key.name), signature.subarray(0, 8), lengthPrefixed(head.origin), numbers, head.root]);
  return signatureHolds(null, message, key.key, signature.subarray(8));
}

// -- Keys ------------------------------------------------------------------------------------------------------------------------------------------

function parseStatements(bytes) {
  if (bytes === null || bytes.length === 0) return [];
  if (bytes.length > KEYS_MAX) throw new Bad('it is too long');
  const whole = utf8(bytes);
  if (whole === null || !whole.endsWith('\n')) throw new Bad('it is not text in lines');
  const blocks = whole.slice(0, -1).split('\n\n');
  if (blocks.length % 2 !== 0 || blocks.length / 2 > STATEMENTS) throw new Bad('it is not a list of statements');
  const statements = [];
  let latest = 0n;
  for (let at = 0; at < blocks.length; at += 2) {
    const note = parseNote(Buffer.from(`${blocks[at]}\n\n${blocks[at + 1]}\n`));
    const lines = note.text.slice(0, -1).split('\n');
    if (lines.length !== 6 || lines[0] !== 'licet/key-change/v1') throw new Bad('a statement is not one');
    const [, name, oldText, newText, from, until] = lines;
    const oldKey = parseKey(oldText);
    const newKey = parseKey(newText);
    if (oldKey === null || newKey === null || oldKey.type !== 1 || newKey.type !== 1) throw new Bad('a key in it is not one');
    if (oldKey.name !== name || newKey.name !== name || oldText === newText) throw new Bad('its keys are not of its name, or the same');
    if (![from, until].every((time) => DECIMAL.test(time) && time.length <= 19 && BigInt(time) <= INT63)) throw new Bad('a time in it is not one');
    if (BigInt(until) < BigInt(from) || BigInt(from) < latest) throw new Bad('its times are out of order');
    latest = BigInt(from);
    statements.push({ note, oldKey, newKey, until: BigInt(until) });
  }
  return statements;
}

const NO_BYTES = Buffer.alloc(0);

// The keys of a place: what was given, and what came from it.
function keyring(given, log) {
  const ring = { known: new Map(), replaced: new Map(), needed: given.length > 0, problem: null };
  let statements = [];
  try {
    statements = parseStatements(readFile(path.join(log, 'keys'), KEYS_MAX));
  } catch (error) {
    if (!(error instanceof Bad)) throw error;
    ring.problem = `keys: ${error.message}`;
  }
  let first = given;
  if (!ring.needed) {
    const lines = (utf8(readFile(path.join(log, 'vkeys'), KEYS_MAX) ?? NO_BYTES) ?? '?').split('\n');
    first = lines.filter((line) => line !== '').map(parseKey);
    if (first.includes(null)) ring.problem = 'vkeys: a line is no verifier key';
    if (first.length === 0) first = statements.map(({ oldKey }) => oldKey);
  }
  if (ring.problem !== null) return ring;
  for (const key of first) ring.known.set(key.handle, key);
  for (const { note, oldKey, newKey, until } of statements) {
    if (!ring.known.has(oldKey.handle) || ring.problem !== null) continue;
    for (const key of [oldKey, newKey]) {
      const lines = note.signatures.filter((line) => line.handle === key.handle);
      if (lines.length === 0 || !lines.every((line) => holds(key, line.bytes, note.text, null))) ring.problem = 'keys: a signature of a statement does not hold';
    }
    if (ring.replaced.has(oldKey.handle)) ring.problem = 'keys: a key has two successors';
    if (ring.replaced.has(newKey.handle)) ring.problem = 'keys: a key came back after it was replaced';
    ring.replaced.set(oldKey.handle, until);
    ring.known.set(newKey.handle, newKey);
  }
  return ring;
}

// -- Records ---------------------------------------------------------------------------------------------------------------------------------------

const OUTCOMES = new Set(['allowed', 'masked', 'blocked', 'refused', 'cancelled', 'failed', 'unknown']);
const isText = (value) => typeof value === 'string';
const MUST = {
  start: { gateway: isText, worker: isInteger, build: isText },
  intent: { call_id: isText, stream: (value) => typeof value === 'boolean' },
  outcome: { call_id: isText, intent: isInteger, outcome: isText },
  note: { topic: isText },
  end: { reason: (value) => value === 'closed' || value === 'recovered', size: isInteger, root: isText },
};

// What records of a stream must be, each by itself and after those before it.
class Records {
  constructor(stream, gone) {
    this.stream = stream;
    this.gone = gone;
    this.open = new Map(); // number of an intent -> call_id, ascending
    this.closedGone = new Set();
    this.stated = gone === 0; // whether a header has told which gone calls are open
    this.intents = new Set();
    this.last = null;
  }

  add(n, payload, tree) {
    const record = Json.read(payload);
    if (!(record instanceof Map)) throw new Bad('the record is no object');
    if (record.get('v') !== 'trace.v1') throw new Bad('the record is of another form');
    if (record.get('id') !== `${this.stream}/${n}`) throw new Bad('the record has another id');
    if (!isInteger(record.get('ts'))) throw new Bad('the record has no time');
    const kind = record.get('kind');
    if (typeof kind !== 'string' || !/^[a-z][a-z0-9_]{0,63}$/.test(kind)) throw new Bad('the record has no kind');
    const must = Object.hasOwn(MUST, kind) ? MUST[kind] : {}; // a later version's kind is skipped
    for (const [name, fits] of Object.entries(must)) if (!fits(record.get(name))) throw new Bad(`the record has no ${name} of its type`);
    const callId = record.get('call_id');
    if ((kind === 'intent' || kind === 'outcome') && !CALL_ID.test(callId)) throw new Bad('its call_id is not one');
    if (kind === 'outcome' && !OUTCOMES.has(record.get('outcome'))) throw new Bad('its outcome is not one');
    if (this.last === 'end') throw new Bad('a record follows the end');
    if ((n === 0) !== (kind === 'start')) throw new Bad('the first record is a start, and no other');
    if (kind === 'intent') this.open.set(n, callId);
    if (kind === 'outcome') this.close(record.get('intent'), callId, n);
    if (kind === 'end') {
      if (record.get('size') !== n || record.get('root') !== tree.root().toString('hex')) throw new Bad('the end does not name the records before it');
      if (this.open.size > 0) throw new Bad('a call is open at the end');
    }
    this.last = kind;
  }

  close(intent, callId, n) {
    if (intent >= 0 && intent < this.gone) {
      if (this.open.has(intent) && this.open.get(intent) !== callId) throw new Bad('the outcome names a call of another call_id');
      if (this.closedGone.has(intent)) throw new Bad('a second outcome of a call');
      this.closedGone.add(intent);
      this.open.delete(intent);
      return;
    }
    if (intent >= n || this.open.get(intent) !== callId) throw new Bad('the outcome names no open call of its call_id');
    this.open.delete(intent);
  }

  // The header of a segment that begins with record `n`.
  header(header, number, n, tree) {
    if (header.get('stream') !== this.stream || header.get('segment') !== number) throw new Bad(`the header of segment ${number} is that of another`);
    if (header.get('first_seq') !== n) throw new Bad(`the header of segment ${number} names another first record`);
    if (header.get('frontier').join() !== tree.frontier().join()) throw new Bad(`the header of segment ${number} has another frontier`);
    const open = new Map(header.get('open'));
    if (!this.stated) {
      const taken = [...open].filter(([seq]) => seq < this.gone);
      if (taken.some(([seq]) => this.closedGone.has(seq))) throw new Bad(`the header of segment ${number} names a closed call as open`);
      this.open = new Map([...taken, ...this.open]);
      this.stated = true;
    }
    const same = open.size === this.open.size && [...open].every(([seq, callId]) => this.open.get(seq) === callId);
    if (!same) throw new Bad(`the header of segment ${number} names other open calls`);
  }
}

// -- Fleet log -------------------------------------------------------------------------------------------------------------------------------------

function headSize(value) {
  const size = isInteger(value) ? BigInt(value) : value instanceof Other ? value.whole : null;
  return size !== null && size >= 1n && size <= INT63 ? size : null;
}

class Entries {
  constructor(log, gone) {
    this.log = log;
    this.gone = gone;
    this.before = null;
    this.latest = { heads: new Map(), others: new Map() };
    this.complete = { heads: new Map(), others: new Map() };
    this.held = { heads: new Map(), others: new Map() }; // origin -> size -> root
    this.last = null;
  }

  add(n, payload) {
    const entry = Json.read(payload);
    if (!(entry instanceof Map)) throw new Bad('the entry is no object');
    if (entry.get('v') !== 'fleet.v1') throw new Bad('the entry is of another form');
    if (entry.get('id') !== `${this.log}/${n}`) throw new Bad('the entry has another id');
    for (const name of ['ts', 'round', 'streams', 'live']) if (!isCount(entry.get(name))) throw new Bad(`its ${name} is no count`);
    if (!Array.isArray(entry.get('heads'))) throw new Bad('the entry has no heads');
    if (n === 0 && entry.get('round') !== 1) throw new Bad('the first round is not 1');
    if (this.before !== null) {
      if (entry.get('ts') < this.before.get('ts')) throw new Bad('its time is below that of the entry before');
      const due = this.before.get('round') + (this.before.get('more') === true ? 0 : 1);
      if (entry.get('round') !== due) throw new Bad('its round is not the next');
    }
    const named = this.heads(entry.get('heads'), 'heads', 3);
    if (entry.has('others')) this.heads(entry.get('others'), 'others', 4);
    if (entry.has('ended')) {
      const ended = entry.get('ended');
      if (!Array.isArray(ended) || !ended.every((origin) => named.has(origin))) throw new Bad('ended names what its heads do not');
      for (const origin of ended) this.complete.heads.set(origin, this.latest.heads.get(origin)[0]);
    }
    for (const name of ['problems', 'others_problems']) if (entry.has(name) && !Array.isArray(entry.get(name))) throw new Bad(`${name} is no list`);
    this.before = entry;
    this.last = 'entry';
  }

  heads(list, which, length) {
    if (!Array.isArray(list)) throw new Bad(`${which} is no list`);
    const named = new Set();
    for (const head of list) {
      if (!Array.isArray(head) || head.length !== length) throw new Bad(`a head in ${which} is not one`);
      const [origin, , root] = head;
      const size = headSize(head[1]);
      if (typeof origin !== 'string' || origin === '' || size === null || typeof root !== 'string' || !HEX64.test(root)) throw new Bad(`a head in ${which} is not one`);
      const before = this.latest[which].get(origin);
      if (before !== undefined && (size < before[0] || (size === before[0] && root !== before[1]))) throw new Bad(`a head of ${origin} contradicts one before it`);
      if (this.complete[which].has(origin) && size > this.complete[which].get(origin)) throw new Bad(`a larger head of ${origin}, which had ended`);
      this.latest[which].set(origin, [size, root]);
      if (!this.held[which].has(origin)) this.held[which].set(origin, new Map());
      this.held[which].get(origin).set(size, root);
      named.add(origin);
    }
    return named;
  }
}

// -- Sealed log ------------------------------------------------------------------------------------------------------------------------------------

function numberPath(number) {
  const groups = [];
  let rest = number;
  do {
    groups.unshift(String(rest % 1000).padStart(3, '0'));
    rest = Math.floor(rest / 1000);
  } while (rest > 0);
  return groups.map((group, at) => (at < groups.length - 1 ? `x${group}` : group)).join('/');
}

class Files {
  constructor(folder, size) {
    this.folder = folder;
    this.size = size;
    this.cache = new Map(); // level -> {index, bytes, ...}
  }

  // The tile or bundle with this index: its bytes (null: missing), how many count, and whether it must end there.
  open(level, index, total, limit) {
    const cached = this.cache.get(level);
    if (cached !== undefined && cached.index === index) return cached;
    const width = Math.min(TILE, total - index * TILE);
    const whole = path.join(this.folder, 'tile', String(level), numberPath(index));
    let bytes = null;
    let ends = true;
    if (width < TILE) bytes = readFile(`${whole}.p/${width}`, limit);
    if (bytes === null) {
      bytes = readFile(whole, limit);
      ends = width === TILE;
    }
    const opened = { index, bytes, width, ends, offset: 0, entry: 0 };
    this.cache.set(level, opened);
    return opened;
  }

  // Hash `at` of a level: {hash: null where it is cut, missing, trailing}.
  hash(level, at, total) {
    const tile = this.open(level, Math.floor(at / TILE), total, TILE * 32);
    if (tile.bytes === null) return { missing: true };
    const inside = at % TILE;
    const hash = tile.bytes.subarray(inside * 32, inside * 32 + 32);
    const trailing = tile.ends && inside === tile.width - 1 && tile.bytes.length > tile.width * 32;
    return { hash: hash.length === 32 ? hash : null, trailing };
  }

  // Entry `n`; entries are asked for one after the other.
  entry(n) {
    const bundle = this.open('entries', Math.floor(n / TILE), this.size, TILE * (RECORD_MAX + 2));
    if (bundle.bytes === null) throw new Bad('its bundle is missing');
    const { bytes, offset } = bundle;
    if (offset + 2 > bytes.length) throw new Bad('its bundle ends before it');
    const end = offset + 2 + bytes.readUInt16BE(offset);
    if (end > bytes.length) throw new Bad('its bundle ends inside it');
    bundle.offset = end;
    bundle.entry += 1;
    if (bundle.ends && bundle.entry === bundle.width && end < bytes.length) throw new Bad('its bundle goes on behind its last entry');
    return bytes.subarray(offset + 2, end);
  }
}

function readMinimum(folder, size) {
  const bytes = readFile(path.join(folder, 'minimum'), 20); // digits of 2^63, and a newline
  if (bytes === null) return 0n;
  const found = /^(0|[1-9][0-9]{0,18})\n?$/.exec(bytes.toString('latin1'));
  if (found === null || BigInt(found[1]) > size) throw new Bad('minimum is not the number of one of its records');
  return BigInt(found[1]);
}

// -- Verdict: one log ------------------------------------------------------------------------------------------------------------------------------

// Who stands for a head. A signature of a known key that does not hold, or none where one is needed, is a problem.
function readSignatures(head, options, ring, passed) {
  const signed = [];
  const witnesses = new Set();
  let seen = null;
  for (const line of head.signatures) {
    const key = ring.known.get(line.handle);
    if (key === undefined || key.type !== 1) continue;
    if (!holds(key, line.bytes, head.text, head)) throw new Bad(`checkpoint: the signature of ${line.handle} does not hold`);
    signed.push(line.handle);
  }
  if (ring.needed && signed.length === 0) throw new Bad('checkpoint: no known key signed it');
  for (const line of head.signatures) {
    const key = options.witnesses.find((one) => one.handle === line.handle);
    if (key === undefined) continue;
    const held = holds(key, line.bytes, head.text, head);
    if (held === false) throw new Bad(`checkpoint: the cosignature of ${line.handle} does not hold`);
    if (held === null) {
      passed.add(`ML-DSA is not in this Node: the cosignature of ${line.handle} was passed over`);
      continue;
    }
    witnesses.add(key.name);
    const time = line.bytes.readBigUInt64BE(0);
    if (seen === null || time < seen) seen = time;
  }
  return { signed, witnesses, seen };
}

// Reads the head of a log: everything in "Head" but the count of witnesses, which needs the fleet logs.
function readHead(log, options, ring, passed) {
  let head;
  try {
    head = parseCheckpoint(readFile(path.join(log.folder, 'checkpoint'), 4 * NOTE_CODE_POINTS));
  } catch (error) {
    if (error instanceof Bad) throw new Bad(`checkpoint: ${error.message}`);
    throw error;
  }
  log.origin = head.origin;
  if (ring.problem !== null) throw new Bad(ring.problem);
  const { signed, witnesses, seen } = readSignatures(head, options, ring, passed);
  // A key in force: it was not replaced, or a witness saw what it signed before the end of its time.
  log.signedInForce = signed.some((handle) => !ring.replaced.has(handle) || (seen !== null && seen <= ring.replaced.get(handle)));
  log.witnesses = witnesses;
  if (head.origin.slice(head.origin.lastIndexOf('/') + 1) !== log.name) throw new Bad('checkpoint: its origin is of another log');
  log.minimum = Number(readMinimum(log.folder, head.size));
  log.adopted = readAdopted(log, options, ring, passed);
  return head;
}

// -- Beside the tiles --------------------------------------------------------------------------------------------------------------------------------

// What is told of a log that another gateway began: {head: null or what its newest said}; null of any other log.
function readAdopted(log, options, ring, passed) {
  const bytes = readFile(path.join(log.folder, 'adopted-from'), ADOPTED_MAX);
  if (bytes === null) return null;
  try {
    if (bytes.length > ADOPTED_MAX) throw new Bad('it is too long');
    const told = Json.read(bytes);
    if (!(told instanceof Map)) throw new Bad('it is no object');
    const findings = told.has('findings') ? told.get('findings') : [];
    if (told.get('origin') !== log.origin || !isText(told.get('by')) || !isText(told.get('checkpoint')) || !Array.isArray(findings)) throw new Bad('it does not tell of this log');
    if (told.get('checkpoint') === '') return { head: null };
    const head = parseCheckpoint(Buffer.from(told.get('checkpoint')));
    readSignatures(head, options, { ...ring, needed: false }, passed);
    if (head.origin !== log.origin) throw new Bad('its head is of another log');
    return { head };
  } catch (error) {
    if (error instanceof Bad) throw new Bad(`adopted-from: ${error.message}`);
    throw error;
  }
}

// The numbers of the records that are held with a proof each.
function heldNumbers(folder) {
  const names = namesIn(path.join(folder, 'held')).map((name) => /^(0|[1-9][0-9]{0,18})\.tlog-proof$/.exec(name));
  return new Set(names.filter((found) => found !== null).map((found) => BigInt(found[1])));
}

// The head that a held proof of record `n` leads to; null: its file is gone.
function readHeld(log, n, leaf, options, ring, passed) {
  const bytes = readFile(path.join(log.folder, 'held', `${n}.tlog-proof`), 4 * NOTE_CODE_POINTS + 2 * EXTRA_MAX);
  if (bytes === null) return null;
  const proof = parseProof(bytes);
  if (proof === null) throw new Bad('held: it is not a proof');
  const head = parseCheckpoint(proof.checkpoint);
  readSignatures(head, options, { ...ring, needed: ring.needed && log.adopted === null }, passed);
  if (proof.index !== BigInt(n) || head.origin !== log.origin || proof.extra === null) throw new Bad('held: the proof is of another record, or holds none');
  if (!leafHash(proof.extra).equals(leaf)) throw new Bad('held: the record in it is not the one in the tree');
  if (!leadsTo(leaf, proof.index, head.size, proof.hashes, head.root)) throw new Bad('held: its path does not lead to its checkpoint');
  return head;
}

// -- Verdict: one log, record by record --------------------------------------------------------------------------------------------------------------

function checkLog(log, options, ring, held, vouched, passed) {
  const report = { name: log.name, problem: null, records: 0, sealed: log.sealed, entries: null };
  let journal = null;
  try {
    checkRecords(log, options, ring, held, vouched, passed, report, (opened) => (journal = opened));
  } catch (error) {
    if (!(error instanceof Bad)) throw error;
    report.problem = { record: `${log.name}/${error.record ?? report.records}`, problem: error.message };
  } finally {
    if (journal !== null) journal.close();
  }
  return report;
}

function checkRecords(log, options, ring, held, vouched, passed, report, keep) {
  let head = null;
  if (log.sealed || log.journal === null) {
    head = readHead(log, options, ring, passed);
    if (log.witnesses.size < options.required && !vouched(log.origin)) throw new Bad('checkpoint: too few witnesses');
  }
  const size = head === null ? 0 : Number(head.size);
  const minimum = head === null ? 0 : log.minimum;
  const kept = [...held(log)]; // [{size, root, fleet}]
  if (log.adopted?.head) kept.push({ size: log.adopted.head.size, root: log.adopted.head.root, fleet: false });
  const stored = head === null ? new Set() : heldNumbers(log.folder);
  const heldAt = new Map();
  for (const one of kept) heldAt.set(one.size, [...(heldAt.get(one.size) ?? []), one]);
  const proofs = options.proofs.filter((proof) => log.answersTo(proof.origin));
  const journal = log.journal === null ? null : new Journal(log.journal, log.name);
  keep(journal);
  if (journal !== null) journal.startAfterPruning(minimum);
  const bundles = minimum === size ? size : TILE * Math.floor(minimum / TILE);
  const gone = Math.min(bundles, journal === null ? Infinity : journal.begin);
  const files = head === null ? null : new Files(log.folder, size);
  const tree = new Tree();
  const records = log.fleet ? new Entries(log.name, gone) : new Records(log.name, gone);
  report.entries = records;

  for (let n = 0; ; n += 1) {
    report.records = n;
    if (head !== null && n === size && !tree.root().equals(head.root)) throw new Bad('the records before it do not have the root of the checkpoint');
    for (const one of heldAt.get(BigInt(n)) ?? []) if (!tree.root().equals(one.root)) throw new Bad('the records before it do not have a root that somebody holds');
    if (n === size && kept.some((one) => one.fleet && one.size > BigInt(n))) throw new Bad('a fleet log holds it to a larger head');
    let payload = null;
    if (journal !== null && !journal.over && journal.begin <= n) payload = journal.next(n, (header, number) => records.header(header, number, n, tree));
    if (n >= size && payload === null && stored.size > 0) throw new Bad('held: a record that the log does not have');
    if (n >= size && payload === null) return finish(n, tree, journal, records, kept, gone);
    if (n < size && journal !== null && journal.over && journal.begin <= n) throw new Bad('the journal is over before the head of the log');
    if (n < size && n >= bundles) {
      const entry = files.entry(n);
      if (payload !== null && !entry.equals(payload)) throw new Bad('its bundle has another record than the journal');
      payload = entry;
    }
    let leaf = payload === null ? null : leafHash(payload);
    if (n < size) {
      const told = files.hash(0, n, size);
      if (told.missing) throw new Bad('its tile is missing');
      if (told.hash === null) throw new Bad('its hash is cut');
      if (leaf !== null && !leaf.equals(told.hash)) throw new Bad('its hash is another');
      if (told.trailing) throw new Bad('its tile goes on behind its last hash');
      leaf = told.hash;
    }
    if (payload !== null) records.add(n, payload, tree);
    for (const proof of proofs) {
      if (proof.index === BigInt(n) && !leadsTo(leaf, proof.index, proof.size, proof.hashes, proof.root)) throw new Bad('a kept proof does not lead to its root');
    }
    if (stored.has(BigInt(n))) {
      const led = readHeld(log, n, leaf, options, ring, passed);
      stored.delete(BigInt(n));
      if (led !== null) {
        const one = { size: led.size, root: led.root, fleet: false };
        kept.push(one);
        heldAt.set(one.size, [...(heldAt.get(one.size) ?? []), one]);
      }
    }
    const levels = tree.append(Buffer.from(leaf));
    for (let level = 1; n < size && level <= levels.length; level += 1) {
      const under = 256 ** level;
      const at = (n + 1) / under - 1;
      const told = files.hash(level, at, Math.floor(size / under));
      if (told.missing || told.hash === null || !told.hash.equals(levels[level - 1]) || told.trailing) throw new Bad(`a hash of level ${level} is missing or another`, n + 1 - under);
    }
  }
}

function finish(n, tree, journal, records, kept, gone) {
  if (kept.some((one) => !one.fleet && one.size > BigInt(n))) throw new Bad('a kept head is larger');
  if (journal === null) return;
  if (journal.torn && records.last === 'end') throw new Bad('a torn frame follows the end');
  if (journal.ended === null) return;
  const ended = journal.endedValue();
  if (ended === null || ended.get('size') !== n || ended.get('root') !== tree.root().toString('hex')) throw new Bad('ended does not name its records');
  if (records.last !== 'end' && !(n > 0 && gone === n)) throw new Bad('ended is there without an end');
}

// -- Proof -----------------------------------------------------------------------------------------------------------------------------------------

function parseKept(where, options) {
  const bytes = readFile(where, 1 << 20);
  if (bytes === null || bytes.length > 1 << 20) throw new Usage(`${where}: there is no such checkpoint or proof`);
  try {
    const proof = parseProof(bytes);
    const head = parseCheckpoint(proof?.checkpoint ?? bytes);
    const ring = { known: new Map(options.keys.map((key) => [key.handle, key])), needed: options.keys.length > 0 };
    readSignatures(head, options, ring, new Set());
    return { ...proof, origin: head.origin, size: head.size, root: head.root };
  } catch (error) {
    if (error instanceof Bad) throw new Usage(`${where}: ${error.message}`);
    throw error;
  }
}

function parseProof(bytes) {
  const text = utf8(bytes);
  if (text === null || !text.startsWith('c2sp.org/tlog-proof@v1\n')) return null;
  const parted = text.indexOf('\n\n');
  if ([...text].length > NOTE_CODE_POINTS + 2 * EXTRA_MAX) throw new Bad('it is too long');
  const lines = text.slice(0, Math.max(parted, 0)).split('\n').slice(1);
  const extra = lines[0]?.startsWith('extra ') ? base64(lines.shift().slice(6)) : undefined;
  if (extra === null || extra?.length > EXTRA_MAX) throw new Bad('extra is not base64, or too long');
  const index = /^index (0|[1-9][0-9]{0,18})$/.exec(lines.shift() ?? '');
  const hashes = lines.map(base64);
  if (index === null || hashes.length > 63 || hashes.some((hash) => hash === null || hash.length !== 32)) throw new Bad('it is not a proof');
  return { index: BigInt(index[1]), hashes, extra: extra ?? null, checkpoint: Buffer.from(text.slice(parted + 2)) };
}

// -- Verdict: all logs -----------------------------------------------------------------------------------------------------------------------------

const lastPart = (origin) => origin.slice(origin.lastIndexOf('/') + 1);
const gatewayOf = (origin) => origin.slice(0, Math.max(origin.lastIndexOf('/'), 0));

function namesIn(where) {
  try {
    return fs.readdirSync(where);
  } catch (error) {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return [];
    throw error;
  }
}

function foldersIn(where, fits) {
  return namesIn(where).filter((name) => STREAM_NAME.test(name) && isFolder(path.join(where, name)) && fits(path.join(where, name)));
}

function findLogs(place) {
  const logs = new Map();
  const make = (name) => {
    if (!logs.has(name)) logs.set(name, { name, folder: null, journal: null, sealed: false, fleet: false, origin: null });
    return logs.get(name);
  };
  if (!isFolder(path.join(place, 'log')) && !isFolder(path.join(place, 'journal'))) throw new Usage(`${place}: there is neither journal nor log`);
  for (const name of foldersIn(path.join(place, 'log'), (folder) => isFile(path.join(folder, 'checkpoint')) || isFolder(path.join(folder, 'tile')))) {
    const log = make(name);
    log.folder = path.join(place, 'log', name);
    log.sealed = isFile(path.join(log.folder, 'checkpoint'));
    try {
      log.origin = parseCheckpoint(readFile(path.join(log.folder, 'checkpoint'), 4 * NOTE_CODE_POINTS)).origin;
    } catch (error) {
      if (!(error instanceof Bad)) throw error; // its own check will say so
    }
  }
  for (const name of foldersIn(path.join(place, 'journal'), () => true)) {
    make(name).journal = path.join(place, 'journal', name);
  }
  for (const log of logs.values()) {
    const called = log.origin === null ? '' : lastPart(log.origin);
    log.fleet = log.journal === null && log.name.startsWith('fleet-') && (called === '' || called === `fleet-${gatewayOf(log.origin)}`);
    log.answersTo = (origin) => (log.sealed ? log.origin === origin : lastPart(origin) === log.name);
  }
  return [...logs.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

export function verify(place, options) {
  if (!isFolder(place)) throw new Usage(`${place}: there is no such folder`);
  const logs = findLogs(place);
  const ring = keyring(options.keys, path.join(place, 'log'));
  const passed = new Set();
  const fleets = logs.filter((log) => log.fleet);
  const results = new Map();
  const good = () => fleets.filter((log) => results.get(log.name).problem === null);

  const heldBy = (holders) => (log) => {
    const kept = options.kept.filter((one) => log.answersTo(one.origin)).map((one) => ({ size: one.size, root: one.root, fleet: false }));
    for (const holder of holders) {
      for (const which of ['heads', 'others']) {
        for (const [origin, heads] of results.get(holder.name).entries.held[which]) {
          if (!log.answersTo(origin)) continue;
          for (const [size, root] of heads) kept.push({ size, root: Buffer.from(root, 'hex'), fleet: true });
        }
      }
    }
    return kept;
  };
  const vouchedBy = (holders) => (origin) =>
    holders.some((one) => one.signedInForce && one.witnesses.size >= options.required && results.get(one.name).entries.held.heads.has(origin));

  for (const log of fleets) results.set(log.name, checkLog(log, options, ring, heldBy([]), () => false, passed));
  const again = good().filter((log) => heldBy(good())(log).some((one) => one.fleet));
  for (const log of again) results.set(log.name, checkLog(log, options, ring, heldBy(good()), () => false, passed));

  const trusted = good();
  for (const log of logs) if (!log.fleet) results.set(log.name, checkLog(log, options, ring, heldBy(trusted), vouchedBy(trusted), passed));

  const reports = [...results.values()];
  const lose = (origin, why) => {
    const name = lastPart(origin);
    reports.push({ name, problem: { record: `${name}/0`, problem: `the log is lost: ${why}` }, records: 0, sealed: false });
  };
  const origins = new Set(logs.map((log) => log.origin));
  const inJournal = new Set(logs.filter((log) => log.journal !== null).map((log) => log.name));
  const missing = (origin) => !origins.has(origin) && !inJournal.has(lastPart(origin));
  const namedIn = (which) => trusted.flatMap((log) => [...results.get(log.name).entries.held[which].keys()]);
  const gone = new Set();
  for (const origin of namedIn('heads')) {
    const name = lastPart(origin);
    if (STREAM_NAME.test(name) && !origins.has(origin) && !logs.some((log) => !log.fleet && log.name === name) && !gone.has(name)) {
      gone.add(name);
      lose(origin, 'a fleet log names it');
    }
  }
  const gatewaysHere = new Set((fleets.length > 0 ? fleets : logs).filter((log) => log.origin !== null).map((log) => gatewayOf(log.origin)));
  for (const origin of namedIn('others')) if (missing(origin) && gatewaysHere.has(gatewayOf(origin))) lose(origin, 'a fleet log names it');
  for (const one of options.kept) if (missing(one.origin)) lose(one.origin, 'a kept head speaks of it');

  const sorted = reports.sort((a, b) => (a.name < b.name ? -1 : 1));
  const isFleet = (report) => fleets.some((log) => log.name === report.name);
  const shown = ({ problem, records, sealed, name }) => ({ stream: name, problem, records, sealed });
  return {
    ok: sorted.every((report) => report.problem === null),
    streams: sorted.filter((report) => !isFleet(report)).map(shown),
    fleets: sorted.filter(isFleet).map(shown),
    passed: [...passed].sort(),
  };
}

// -- the command -----------------------------------------------------------------------------------------------------------------------------------

function parseArguments(args) {
  const options = { keys: [], witnesses: [], required: 0, kept: [], proofs: [] };
  const files = [];
  let place = null;
  let json = false;
  let batch = false;
  const rest = [...args];
  const key = (types, name) => {
    const parsed = parseKey(rest.shift() ?? '');
    if (parsed === null || !types.includes(parsed.type)) throw new Usage(`${name}: not a verifier key of its kind`);
    return parsed;
  };
  while (rest.length > 0) {
    const word = rest.shift();
    if (word === '--key') options.keys.push(key([1], word));
    else if (word === '--witness') options.witnesses.push(key([4, 6], word));
    else if (word === '--witnesses-required') {
      const count = rest.shift() ?? '';
      if (!/^[0-9]{1,4}$/.test(count)) throw new Usage(`${word}: not a number`);
      options.required = Number(count);
    } else if (word === '--kept') {
      files.push(rest.shift() ?? '');
    } else if (word === '--json') json = true;
    else if (word === '--batch') batch = true;
    else if (!word.startsWith('-') && place === null) place = word;
    else throw new Usage(`${word}: not an option`);
  }
  if (options.required > new Set(options.witnesses.map((key) => key.name)).size) throw new Usage('more witnesses are required than are named');
  options.kept = files.map((file) => parseKept(file, options));
  options.proofs = options.kept.filter((one) => one.index !== undefined);
  if ((place === null) !== batch) throw new Usage('name one folder, or --batch and folders on standard input');
  return { place, options, json, batch };
}

// A verdict, or why there is none: what cannot be read says nothing of a log.
function answer(place, options) {
  try {
    return verify(place, options);
  } catch (error) {
    if (!(error instanceof Usage) && typeof error.code !== 'string') throw error;
    return { error: error.message };
  }
}

async function main() {
  let asked;
  try {
    asked = parseArguments(process.argv.slice(2));
    if (asked.batch) {
      for await (const line of createInterface({ input: process.stdin })) {
        if (line !== '') process.stdout.write(`${JSON.stringify(answer(line, asked.options))}\n`);
      }
      return 0;
    }
    const verdict = verify(asked.place, asked.options);
    if (asked.json) process.stdout.write(`${JSON.stringify(verdict)}\n`);
    else {
      for (const one of [...verdict.fleets, ...verdict.streams]) {
        process.stdout.write(one.problem === null ? `${one.stream}: ${one.records} records\n` : `${one.stream}: ${one.problem.record}: ${one.problem.problem}\n`);
      }
      for (const line of verdict.passed) process.stdout.write(`${line}\n`);
    }
    return verdict.ok ? 0 : 1;
  } catch (error) {
    if (!(error instanceof Usage) && typeof error.code !== 'string') throw error;
    process.stderr.write(`${error.message}\n`);
    return 2;
  }
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) process.exitCode = await main();
