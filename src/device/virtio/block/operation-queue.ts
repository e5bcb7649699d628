import { type ByteReader, type ByteWriter, TruncatedError } from '../../../base/bytes.ts';
import type { Segment } from '../chain.ts';

/** Where the answer of an operation goes once it is complete. */
export interface Answer {
  /** Head of the descriptor chain. */
  readonly head: number;
  /** The writable buffers: a read's data, then one status byte at the end. */
  readonly writable: readonly Segment[];
  readonly writableLength: number;
}

export type OperationKind = 'read' | 'write' | 'flush' | 'discard' | 'write-zeroes';

/** One disk operation, from the doorbell to its completion. */
export interface Operation {
  readonly kind: OperationKind;
  /** Byte offset and length on the disk; both 0 for a flush that covers all. */
  readonly offset: number;
  readonly length: number;
  /** A write's data, taken at the doorbell; empty otherwise. */
  readonly data: Uint8Array;
  /** Undefined once the driver reset the device: the operation goes on, but nobody is told. */
  answer: Answer | undefined;
  /** A write is answered only after a flush of its own: there is no volatile cache [virtio 5.2.6.2]. */
  readonly through: boolean;
  /** 0 while it is held back; then the number that its completion carries. */
  request: number;
}

/** What leaves the machine: the shape of the door's disk request without the disk's number. */
export interface BlockRequest {
  readonly request: number;
  readonly operation: OperationKind;
  readonly offset: number;
  readonly length: number;
  readonly data: Uint8Array;
}

const KINDS: readonly OperationKind[] = ['read', 'write', 'flush', 'discard', 'write-zeroes'];

/**
 * The operations of one disk that are not complete, in order of arrival. Two that overlap are never under way
 * at once when one of them changes the disk: their order would depend on the host [FT 3.4]. A flush waits for the
 * changes that arrived before it, so that it covers them.
 */
export class OperationQueue {
  readonly #issue: (request: BlockRequest) => void;
  #operations: Operation[] = [];
  #held = 0;
  #lastRequest = 0;
  #bytes = 0;

  constructor(issue: (request: BlockRequest) => void) {
    this.#issue = issue;
  }

  get length(): number {
    return this.#operations.length;
  }

  /** Bytes that operations carry or wait for: what bounds the host's memory. */
  get bytes(): number {
    return this.#bytes;
  }

  add(operation: Operation): void {
    this.#operations.push(operation);
    this.#bytes += carried(operation);
    this.#held += 1;
    this.issueReady();
  }

  /** Takes the operation with this number off the queue; undefined when there is none under way. */
  complete(request: number): Operation | undefined {
    if (request === 0) return undefined;
    const at = this.#operations.findIndex((operation) => operation.request === request);
    if (at < 0) return undefined;
    const [operation] = this.#operations.splice(at, 1);
    this.#bytes -= carried(operation!);
    return operation;
  }

  /** Issues what no longer conflicts with anything earlier, in order of arrival. */
  issueReady(): void {
    for (let index = 0; this.#held > 0 && index < this.#operations.length; index += 1) {
      const operation = this.#operations[index]!;
      if (operation.request !== 0 || this.#waits(operation, index)) continue;
      this.#lastRequest += 1;
      operation.request = this.#lastRequest;
      this.#held -= 1;
      this.#issue(blockRequest(operation));
    }
  }

  /** Requests issued and not complete, in the order of issue. */
  pending(): readonly BlockRequest[] {
    return this.#operations
      .filter((operation) => operation.request !== 0)
      .sort((one, other) => one.request - other.request)
      .map(blockRequest);
  }

  /** The driver is gone: what has left cannot be called back, what has not is dropped. */
  abandon(): void {
    this.#operations = this.#operations.filter((operation) => operation.request !== 0);
    for (const operation of this.#operations) operation.answer = undefined;
    this.#held = 0;
    this.#bytes = this.#operations.reduce((sum, operation) => sum + carried(operation), 0);
  }

  save(writer: ByteWriter): void {
    writer.uint(this.#lastRequest).u32(this.#operations.length);
    for (const operation of this.#operations) {
      writer.uint(operation.request).u8(KINDS.indexOf(operation.kind)).bool(operation.through);
      writer.uint(operation.offset).u32(operation.length).bytes(operation.data);
      writer.bool(operation.answer !== undefined);
      if (operation.answer !== undefined) saveAnswer(writer, operation.answer);
    }
  }

  load(reader: ByteReader): void {
    this.#lastRequest = reader.uint();
    const count = reader.u32();
    this.#operations = [];
    for (let index = 0; index < count; index += 1) this.#operations.push(this.#loadOperation(reader));
    this.#held = this.#operations.filter((operation) => operation.request === 0).length;
    this.#bytes = this.#operations.reduce((sum, operation) => sum + carried(operation), 0);
  }

  #loadOperation(reader: ByteReader): Operation {
    const request = reader.uint();
    const kind = KINDS[reader.u8()];
    const through = reader.bool();
    const offset = reader.uint();
    const length = reader.u32();
    const data = reader.bytes();
    const answer = reader.bool() ? loadAnswer(reader) : undefined;
    if (
      kind === undefined ||
      request > this.#lastRequest ||
      data.length !== (kind === 'write' ? length : 0)
    ) {
      throw new TruncatedError('disk operation in the state is not valid');
    }
    return { kind, offset, length, data, answer, through, request };
  }

  #waits(operation: Operation, index: number): boolean {
    for (let earlier = 0; earlier < index; earlier += 1) {
      if (conflicts(this.#operations[earlier]!, operation)) return true;
    }
    return false;
  }
}

/** What is cleared takes no memory but time, on storage that has to write zeroes: four of the longest are under way. */
const CLEAR_SHARE = 16;

/** Bytes of memory that it takes until it is complete, or what is counted for them. */
function carried({ kind, length }: Operation): number {
  return kind === 'read' || kind === 'write' ? length : Math.ceil(length / CLEAR_SHARE);
}

function conflicts(earlier: Operation, later: Operation): boolean {
  if (later.kind === 'flush') return earlier.kind !== 'read' && earlier.kind !== 'flush';
  if (earlier.kind === 'flush') return false;
  if (earlier.kind === 'read' && later.kind === 'read') return false;
  return later.offset < earlier.offset + earlier.length && earlier.offset < later.offset + later.length;
}

function blockRequest(operation: Operation): BlockRequest {
  const { request, kind, offset, length, data } = operation;
  return { request, operation: kind, offset, length, data };
}

function saveAnswer(writer: ByteWriter, answer: Answer): void {
  writer.u16(answer.head).u32(answer.writable.length);
  for (const segment of answer.writable) writer.uint(segment.address).u32(segment.length);
}

function loadAnswer(reader: ByteReader): Answer {
  const head = reader.u16();
  const count = reader.u32();
  const writable: Segment[] = [];
  let writableLength = 0;
  for (let index = 0; index < count; index += 1) {
    const segment = { address: reader.uint(), length: reader.u32() };
    writable.push(segment);
    writableLength += segment.length;
  }
  if (writableLength === 0) throw new TruncatedError('disk operation without a status byte');
  return { head, writable, writableLength };
}
