// A layer of MobileStyleGAN on a CPU in one pass: activate, scale, double the resolution where asked, convolve each channel, and
// in float32 also the matrix product behind it. Features are channels last; sums are computed in float32. See fused_synthesis.py.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

namespace {

#ifdef __AVX512F__
constexpr long LANES = 16; // floats of a vector
constexpr long ROWS = 12;  // pixels whose sums stay in registers during a product
#else
constexpr long LANES = 8;
constexpr long ROWS = 6;
#endif
constexpr long COLUMNS = 2 * LANES; // outputs whose sums stay in registers
constexpr long STRIP = 64 * 1024;   // floats of a strip that is convolved, then multiplied: they stay in the second-level cache
constexpr float SLOPE = 0.2f;       // of the leaky ReLU

typedef uint16_t bfloat16;
typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef uint32_t Words __attribute__((vector_size(4 * LANES)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));

inline Floats load(const float *from) {
  Floats values;
  std::memcpy(&values, from, sizeof values);
  return values;
}

inline Floats load(const bfloat16 *from) {
  Halves halves;
  std::memcpy(&halves, from, sizeof halves);
  return (Floats)(__builtin_convertvector(halves, Words) << 16);
}

inline void store(float *to, Floats values) { std::memcpy(to, &values, sizeof values); }

inline void store(bfloat16 *to, Floats values) {
#ifdef __AVX512BF16__
  __m256bh halves = _mm512_cvtneps_pbh((__m512)values);
#else
  Words words = (Words)values; // rounded to the nearest, ties to even
  Halves halves = __builtin_convertvector((words + 0x7fff + (words >> 16 & 1)) >> 16, Halves);
#endif
  std::memcpy(to, &halves, sizeof halves);
}

inline Floats activate(Floats values, Floats added, Floats scale) {
  values += added;
  Floats small = SLOPE * values;
  return (values > small ? values : small) * scale;
}

} // namespace

extern "C" {

struct Features { // (N, H, W, C): the distance of images, rows and pixels in elements
  const void *data;
  long image, row, pixel;
};

struct Noise { // (H, W), of all images
  const float *data;
  long row;
};

// Depthwise 3x3, zero-padded, of haar(scale * leaky_relu(x + noise + bias)). `doubled`: x has 4 C channels (LL, V, H, D) at half of
// the result's height and width, as does the noise; else haar is left out. scale (N, C or 4 C), `scale_image` apart, in the type of
// x; kernel (9, C). C is a multiple of 16. `count`, `height`, `width` and `channels` are the result's.
struct Layer {
  Features x;
  Noise noise;
  const float *bias;
  const void *scale;
  long scale_image;
  const float *kernel;
  long count, height, width, channels, doubled, threads;
};
}

namespace {

// Computes rows of some images, a block of channels at a time. A thread has one.
template <class T> class Convolution {
  static constexpr long BLOCK = sizeof(T) == 2 ? 256 : 64; // channels of the rows that are kept in the second-level cache
  const Layer &of;
  const long pixel, line;  // floats of a pixel and of a row that is kept
  std::vector<float> rows; // six rows in turn, and one of zeros beyond the edges; a zero pixel at each end

  float *row(long y) { return rows.data() + (y < 0 || y >= of.height ? 6 : y % 6) * line; }

  // Row y, and if doubled y + 1.
  long fill(long n, long y, long first, long block) {
    const long from = of.doubled ? y / 2 : y, channels = of.channels;
    const T *features = (const T *)of.x.data + n * of.x.image + from * of.x.row + first;
    const T *scales = (const T *)of.scale + n * of.scale_image + first;
    const float *noises = of.noise.data + from * of.noise.row, *biases = of.bias + first;
    const long step = of.x.pixel, pixel = this->pixel, width = of.width;
    auto value = [&](long i, long c) {
      return activate(load(features + i * step + c), noises[i] + load(biases + c), load(scales + c));
    };
    float *above = row(y) + pixel;
    if (!of.doubled) {
      for (long i = 0; i < width; i++)
        for (long c = 0; c < block; c += LANES)
          store(above + i * pixel + c, value(i, c));
      return 1;
    }
    float *below = row(y + 1) + pixel;
    for (long i = 0; i < width / 2; i++) {
      for (long c = 0; c < block; c += LANES) {
        const Floats low = value(i, c), vertical = value(i, c + channels);
        const Floats horizontal = value(i, c + 2 * channels), diagonal = value(i, c + 3 * channels);
        const Floats even = low + vertical, odd = low - vertical;
        const Floats even_step = horizontal + diagonal, odd_step = horizontal - diagonal;
        store(above + 2 * i * pixel + c, even + even_step);
        store(above + (2 * i + 1) * pixel + c, even - even_step);
        store(below + 2 * i * pixel + c, odd + odd_step);
        store(below + (2 * i + 1) * pixel + c, odd - odd_step);
      }
    }
    return 2;
  }

  // LANES channels of two rows, which read four rows instead of six.
  void convolve(const float *const from[4], const float *kernel, T *upper, T *lower, long step, long lower_step) {
    Floats taps[9], values[4];
    const long pixel = this->pixel;
    for (long tap = 0; tap < 9; tap++)
      taps[tap] = load(kernel + tap * of.channels);
    auto read = [&](long column) {
      for (long i = 0; i < 4; i++)
        values[i] = load(from[i] + column * pixel);
    };
    auto part_of = [&](long i, long tap) { return values[i] * taps[tap] + values[i + 1] * taps[3 + tap] + values[i + 2] * taps[6 + tap]; };
    read(0);
    Floats sum[2] = {part_of(0, 0), part_of(1, 0)}; // of each row's pixel, its left and middle column
    read(1);
    sum[0] += part_of(0, 1), sum[1] += part_of(1, 1);
    Floats next[2] = {part_of(0, 0), part_of(1, 0)};
    for (long i = 0, end = of.width; i < end; i++) {
      read(i + 2);
      store(upper + i * step, sum[0] + part_of(0, 2));
      store(lower + i * lower_step, sum[1] + part_of(1, 2));
      sum[0] = next[0] + part_of(0, 1), sum[1] = next[1] + part_of(1, 1);
      next[0] = part_of(0, 0), next[1] = part_of(1, 0);
    }
  }

public:
  explicit Convolution(const Layer &layer)
      : of(layer), pixel(std::min(BLOCK, layer.channels)), line((layer.width + 2) * pixel), rows(7 * line) {}

  // Rows [top, bottom) of image n, `step` elements from pixel to pixel. `top` is even.
  void operator()(long n, long top, long bottom, T *result, long step) {
    for (long first = 0; first < of.channels; first += BLOCK) {
      const long block = std::min(BLOCK, of.channels - first);
      long filled = std::max(0L, top - 2);
      for (long y = top; y < bottom; y += 2) {
        while (filled <= y + 2 && filled < of.height)
          filled += fill(n, filled, first, block);
        for (long c = 0; c < block; c += LANES) {
          const float *from[4] = {row(y - 1) + c, row(y) + c, row(y + 1) + c, row(y + 2) + c};
          T *upper = result + (y - top) * of.width * step + first + c, nowhere[LANES];
          const bool both = y + 1 < bottom;
          convolve(from, of.kernel + first + c, upper, both ? upper + of.width * step : nowhere, step, both ? step : 0);
        }
      }
    }
  }
};

// COUNT rows of `rows` (.., K), `pitch` apart, times (K, COLUMNS).
template <long COUNT> void multiply_block(const float *rows, long pitch, const float *weights, long depth, float *result, long step) {
  Floats sums[COUNT][2] = {};
  for (long k = 0; k < depth; k++) {
    const Floats left = load(weights + k * COLUMNS), right = load(weights + k * COLUMNS + LANES);
#pragma GCC unroll 12
    for (long i = 0; i < COUNT; i++) {
      const float value = rows[i * pitch + k];
      sums[i][0] += value * left, sums[i][1] += value * right;
    }
  }
#pragma GCC unroll 12
  for (long i = 0; i < COUNT; i++)
    store(result + i * step, sums[i][0]), store(result + i * step + LANES, sums[i][1]);
}

template <long COUNT> void multiply_rest(long count, const float *rows, long pitch, const float *weights, long depth, float *result, long step) {
  if (count == COUNT)
    multiply_block<COUNT>(rows, pitch, weights, depth, result, step);
  else if constexpr (COUNT > 1)
    multiply_rest<COUNT - 1>(count, rows, pitch, weights, depth, result, step);
}

// (count, depth) times (depth, outputs), whose columns are in blocks of COLUMNS: (outputs / COLUMNS, depth, COLUMNS).
void multiply(const float *rows, long pitch, long count, const float *weights, long depth, float *result, long outputs) {
  for (long column = 0; column < outputs; column += COLUMNS, weights += depth * COLUMNS)
    for (long i = 0; i < count; i += ROWS)
      multiply_rest<ROWS>(std::min(ROWS, count - i), rows + i * pitch, pitch, weights, depth, result + i * outputs + column, outputs);
}

// Rows of a part of the work, an even number.
long rows_of(const Layer &layer, long pitch) { return std::max(2L, STRIP / (layer.width * pitch) / 2 * 2); }

} // namespace

extern "C" {

long columns_of_a_block() { return COLUMNS; }

// In bfloat16, without the product: result (N, H, W, C).
void activate_and_convolve(const Layer &layer, bfloat16 *result) {
  const long strip = ((layer.height + layer.threads - 1) / layer.threads + 1) / 2 * 2, strips = (layer.height + strip - 1) / strip;
#pragma omp parallel num_threads(layer.threads) if (layer.threads > 1)
  {
    Convolution<bfloat16> convolve(layer);
#pragma omp for
    for (long part = 0; part < layer.count * strips; part++) {
      const long n = part / strips, top = part % strips * strip, bottom = std::min(top + strip, layer.height);
      convolve(n, top, bottom, result + (n * layer.height + top) * layer.width * layer.channels, layer.channels);
    }
  }
}

// In float32, times (C, outputs), whose columns are in blocks of `columns_of_a_block`: result (N, H, W, outputs).
void activate_convolve_and_multiply(const Layer &layer, const float *weights, long outputs, float *result) {
  const long pitch = layer.channels + LANES; // not a power of two, which would map the pixels to few sets of the cache
  const long strip = rows_of(layer, pitch), strips = (layer.height + strip - 1) / strip;
#pragma omp parallel num_threads(layer.threads) if (layer.threads > 1)
  {
    Convolution<float> convolve(layer);
    std::vector<float> convolved(strip * layer.width * pitch);
#pragma omp for
    for (long part = 0; part < layer.count * strips; part++) {
      const long n = part / strips, top = part % strips * strip, bottom = std::min(top + strip, layer.height);
      convolve(n, top, bottom, convolved.data(), pitch);
      float *to = result + (n * layer.height + top) * layer.width * outputs;
      multiply(convolved.data(), pitch, (bottom - top) * layer.width, weights, layer.channels, to, outputs);
    }
  }
}
}
