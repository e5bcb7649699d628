import { assert } from '../../../base/assert.ts';
import type { ByteReader, ByteWriter } from '../../../base/bytes.ts';
import type { GuestMemory } from '../../device.ts';
import { type Chain, gather, scatter } from '../chain.ts';
import { VirtioDevice } from '../virtio-device.ts';
import { type Answer, type BlockRequest, type Operation, OperationQueue } from './operation-queue.ts';

/** Feature bits [virtio 5.2.3]. */
const FEATURE_SIZE_MAX = 1n << 1n;
const FEATURE_SEG_MAX = 1n << 2n;
const FEATURE_READ_ONLY = 1n << 5n;
const FEATURE_BLOCK_SIZE = 1n << 6n;
const FEATURE_FLUSH = 1n << 9n;
const FEATURE_TOPOLOGY = 1n << 10n;
const FEATURE_DISCARD = 1n << 13n;
const FEATURE_WRITE_ZEROES = 1n << 14n;

/** Request types [virtio 5.2.6]. */
const TYPE_IN = 0;
const TYPE_OUT = 1;
const TYPE_FLUSH = 4;
const TYPE_GET_ID = 8;
const TYPE_DISCARD = 11;
const TYPE_WRITE_ZEROES = 13;

/** The one flag of a segment of DISCARD or WRITE_ZEROES; the others are reserved [virtio 5.2.6.2]. */
const FLAG_UNMAP = 1;
const CLEAR_SEGMENT_BYTES = 16;

const STATUS_OK = 0;
const STATUS_IO_ERROR = 1;
const STATUS_UNSUPPORTED = 2;

const QUEUE = 0;
const QUEUE_SIZE = 256;
const HEADER_BYTES = 16;
const SECTOR_BYTES = 512;
const ID_BYTES = 20;
const CONFIGURATION_BYTES = 60;
/** What storage likes: 4 KiB, as a power of two of sectors. */
const PHYSICAL_BLOCK_EXPONENT = 3;

/** What the driver is told, so that one request is at most 8 MiB; a longer one is an I/O error. */
const SEGMENT_BYTES_MAX = 65_536;
const SEGMENTS_MAX = 128;
const TRANSFER_BYTES_MAX = SEGMENTS_MAX * SEGMENT_BYTES_MAX;

/** One request clears so much: storage that has to write the zeroes must not fall silent over it. */
const CLEAR_SECTORS_MAX = 128 * 2 ** 11;

/** Beyond these, requests stay in the ring until others are complete: the host's memory is bounded. */
export const OPERATIONS_MAX = 128;
export const OPERATION_BYTES_MAX = 4 * TRANSFER_BYTES_MAX;

export interface BlockOptions {
  readonly name: string;
  /** Bytes, a multiple of 512. */
  readonly capacity: number;
  readonly readOnly: boolean;
  /** What GET_ID answers: at most 20 bytes of ASCII. */
  readonly serial: string;
  /** A disk request leaves the machine. Its completion comes later, never from inside this call. */
  readonly onRequest: (request: BlockRequest) => void;
}

/** The block device [virtio 5.2]. DMA goes through bounce buffers (design 6): see `rung` and `complete`. */
export class BlockDevice extends VirtioDevice {
  readonly #options: BlockOptions;
  readonly #operations: OperationQueue;

  constructor(options: BlockOptions, memory: GuestMemory) {
    assert(
      Number.isSafeInteger(options.capacity) &&
        options.capacity >= 0 &&
        options.capacity % SECTOR_BYTES === 0,
      'the capacity of a disk is a multiple of 512 bytes',
    );
    super(
      {
        name: options.name,
        type: 2,
        pciClass: 0x01_80_00,
        queueSizes: [QUEUE_SIZE],
        features:
          FEATURE_SIZE_MAX |
          FEATURE_SEG_MAX |
          FEATURE_BLOCK_SIZE |
          FEATURE_FLUSH |
          FEATURE_TOPOLOGY |
          (options.readOnly ? FEATURE_READ_ONLY : FEATURE_DISCARD | FEATURE_WRITE_ZEROES),
      },
      memory,
    );
    this.#options = options;
    this.#operations = new OperationQueue(options.onRequest);
  }

  /**
   * [virtio 5.2.4]: capacity in sectors, size_max, seg_max, geometry (not offered), blk_size, topology; one segment for
   * each DISCARD and WRITE_ZEROES, so that one request is one operation.
   */
  configuration(): Uint8Array {
    const bytes = new Uint8Array(CONFIGURATION_BYTES);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(0, BigInt(this.#options.capacity / SECTOR_BYTES), true);
    view.setUint32(8, SEGMENT_BYTES_MAX, true);
    view.setUint32(12, SEGMENTS_MAX, true);
    view.setUint32(20, SECTOR_BYTES, true);
    view.setUint8(24, PHYSICAL_BLOCK_EXPONENT);
    view.setUint16(26, 1 << PHYSICAL_BLOCK_EXPONENT, true);
    if (this.#options.readOnly) return bytes;
    view.setUint32(36, CLEAR_SECTORS_MAX, true);
    view.setUint32(40, 1, true);
    view.setUint32(44, 1 << PHYSICAL_BLOCK_EXPONENT, true);
    view.setUint32(48, CLEAR_SECTORS_MAX, true);
    view.setUint32(52, 1, true);
    view.setUint8(56, 1);
    return bytes;
  }

  /** Requests that left and are not complete, in order of issue: what a takeover issues again. */
  pendingRequests(): readonly BlockRequest[] {
    return this.#operations.pending();
  }

  /**
   * A request is complete: only now does guest memory change. False when no such request is under way, and
   * then nothing happens. `data` is what a read returned; of another length, it counts as an error.
   */
  complete(request: number, status: 'ok' | 'error', data: Uint8Array): boolean {
    const operation = this.#operations.complete(request);
    if (operation === undefined) return false;
    const good = status === 'ok' && (operation.kind !== 'read' || data.length === operation.length);
    if (good && operation.through && operation.answer !== undefined) {
      this.#operations.add(flushOperation(operation.answer));
    } else if (operation.answer !== undefined) {
      const read = good && operation.kind === 'read' ? data : NO_DATA;
      this.#answer(operation.answer, read, good ? STATUS_OK : STATUS_IO_ERROR);
    }
    this.#operations.issueReady();
    // There may be room now for requests that were left in the ring.
    this.#takeAll();
    this.signal(QUEUE);
    return true;
  }

  protected rung(): void {
    this.#takeAll();
    this.signal(QUEUE);
  }

  protected override stopped(): void {
    this.#operations.abandon();
  }

  protected override saveKind(writer: ByteWriter): void {
    this.#operations.save(writer);
  }

  protected override loadKind(reader: ByteReader): void {
    this.#operations.load(reader);
  }

  #takeAll(): void {
    while (this.#operations.length < OPERATIONS_MAX && this.#operations.bytes < OPERATION_BYTES_MAX) {
      const chain = this.take(QUEUE);
      if (chain === undefined) return;
      this.#accept(chain);
    }
  }

  #accept(chain: Chain): void {
    // No place for a status byte, or no header: there is no way to answer [virtio 5.2.6].
    if (chain.writableLength === 0 || chain.readableLength < HEADER_BYTES) {
      this.fail('disk request without a header or a status byte');
      return;
    }
    const header = gather(this.memory, chain.readable, 0, HEADER_BYTES);
    if (header === undefined) {
      this.fail('disk request is not in RAM');
      return;
    }
    const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
    const sector = view.getBigUint64(8, true);
    switch (view.getUint32(0, true)) {
      case TYPE_IN:
        this.#acceptTransfer(chain, 'read', sector, chain.writableLength - 1);
        break;
      case TYPE_OUT:
        this.#acceptTransfer(chain, 'write', sector, chain.readableLength - HEADER_BYTES);
        break;
      case TYPE_FLUSH:
        this.#operations.add(flushOperation(chain));
        break;
      case TYPE_DISCARD:
      case TYPE_WRITE_ZEROES:
        this.#acceptClearing(chain, view.getUint32(0, true));
        break;
      case TYPE_GET_ID:
        this.#answer(chain, this.#id(chain.writableLength - 1), STATUS_OK);
        break;
      default:
        this.#answer(chain, NO_DATA, STATUS_UNSUPPORTED);
    }
  }

  #acceptTransfer(chain: Chain, kind: 'read' | 'write', sector: bigint, length: number): void {
    const end = sector * BigInt(SECTOR_BYTES) + BigInt(length);
    const allowed =
      length % SECTOR_BYTES === 0 &&
      length <= TRANSFER_BYTES_MAX &&
      end <= BigInt(this.#options.capacity) &&
      !(kind === 'write' && this.#options.readOnly);
    if (!allowed || length === 0) {
      this.#answer(chain, NO_DATA, allowed ? STATUS_OK : STATUS_IO_ERROR);
      return;
    }
    const data = kind === 'write' ? gather(this.memory, chain.readable, HEADER_BYTES, length) : NO_DATA;
    if (data === undefined) {
      this.fail('disk buffer is not in RAM');
      return;
    }
    const through = kind === 'write' && !this.hasFeature(FEATURE_FLUSH);
    const offset = Number(sector) * SECTOR_BYTES;
    this.#operations.add({ kind, offset, length, data, answer: chain, through, request: 0 });
  }

  /** DISCARD and WRITE_ZEROES [virtio 5.2.6.2]: one segment {u64 sector, u32 sectors, u32 flags}. */
  #acceptClearing(chain: Chain, type: number): void {
    const feature = type === TYPE_DISCARD ? FEATURE_DISCARD : FEATURE_WRITE_ZEROES;
    const known = this.hasFeature(feature);
    if (!known || chain.readableLength !== HEADER_BYTES + CLEAR_SEGMENT_BYTES) {
      this.#answer(chain, NO_DATA, known ? STATUS_IO_ERROR : STATUS_UNSUPPORTED);
      return;
    }
    const segment = gather(this.memory, chain.readable, HEADER_BYTES, CLEAR_SEGMENT_BYTES);
    if (segment === undefined) {
      this.fail('disk request is not in RAM');
      return;
    }
    const view = new DataView(segment.buffer, segment.byteOffset, segment.byteLength);
    const sector = view.getBigUint64(0, true);
    const sectors = view.getUint32(8, true);
    const flags = view.getUint32(12, true);
    const status = this.#clearingStatus(type, sector, sectors, flags);
    if (status !== STATUS_OK || sectors === 0) {
      this.#answer(chain, NO_DATA, status);
      return;
    }
    this.#operations.add({
      kind: type === TYPE_DISCARD || flags === FLAG_UNMAP ? 'discard' : 'write-zeroes',
      offset: Number(sector) * SECTOR_BYTES,
      length: sectors * SECTOR_BYTES,
      data: NO_DATA,
      answer: chain,
      through: !this.hasFeature(FEATURE_FLUSH),
      request: 0,
    });
  }

  #clearingStatus(type: number, sector: bigint, sectors: number, flags: number): number {
    const allowed = type === TYPE_WRITE_ZEROES ? FLAG_UNMAP : 0;
    if ((flags & ~allowed) !== 0) return STATUS_UNSUPPORTED;
    const end = (sector + BigInt(sectors)) * BigInt(SECTOR_BYTES);
    const fits = sectors <= CLEAR_SECTORS_MAX && end <= BigInt(this.#options.capacity);
    return fits ? STATUS_OK : STATUS_IO_ERROR;
  }

  /** Writes data and status, and gives the chain back. */
  #answer(answer: Answer, data: Uint8Array, status: number): void {
    if (!this.live) return;
    const statusAt = answer.writableLength - 1;
    const stored =
      scatter(this.memory, answer.writable, 0, data) &&
      scatter(this.memory, answer.writable, statusAt, Uint8Array.of(status));
    // Only bytes written without a gap from the start count [virtio 2.7.8.2].
    if (stored) this.give(QUEUE, answer.head, data.length === statusAt ? statusAt + 1 : data.length);
    else this.fail('disk buffer is not in RAM');
  }

  /** Not terminated when it fills the buffer [virtio 5.2.6]. */
  #id(room: number): Uint8Array {
    const id = new Uint8Array(Math.min(room, ID_BYTES));
    const { serial } = this.#options;
    for (let index = 0; index < Math.min(serial.length, id.length); index += 1) {
      id[index] = serial.charCodeAt(index) & 0x7f;
    }
    return id;
  }
}

const NO_DATA = new Uint8Array(0);

function flushOperation(answer: Answer | undefined): Operation {
  return { kind: 'flush', offset: 0, length: 0, data: NO_DATA, answer, through: false, request: 0 };
}
