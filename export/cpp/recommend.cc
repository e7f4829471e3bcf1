// Recommends from an exported version, without Python.
//
//     recommend VERSION SIGNATURE NAME=VALUE..
//     recommend VERSION SIGNATURE < users
//
// VERSION is BASE/1, SIGNATURE is recommend or recommend_filtered, and each
// NAME=VALUE is one value of an input, in order, as in
//
//     recommend exported/jtm/1 recommend_filtered history=17 history=4
//         exclude=250 allow_categories="Snacks|Nuts"
//
// Without any, users are read from standard input, one a line, their
// NAME=VALUE separated by tabs; an empty line is somebody unknown. Prints
// USER <tab> ITEM <tab> SCORE, the best first, users counted from 0. Exit
// status 1 and a message if something is wrong.
//
// The version is loaded by tensorflow::LoadSavedModel into a session, as
// TensorFlow Serving does it; a user is one run of it. See build.py.

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tensorflow/cc/saved_model/loader.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/public/session.h"

namespace {

using tensorflow::Tensor;

// What a user sends: input to values, as text.
using User = std::map<std::string, std::vector<std::string>>;

// Adds "NAME=VALUE" to a user.
absl::Status AddField(const std::string& field, User* user) {
  const size_t equals = field.find('=');
  if (equals == std::string::npos) {
    return absl::InvalidArgumentError("expected NAME=VALUE; got " + field);
  }
  (*user)[field.substr(0, equals)].push_back(field.substr(equals + 1));
  return absl::OkStatus();
}

// Reads a user from "NAME=VALUE<tab>NAME=VALUE".
absl::Status ParseLine(const std::string& line, User* user) {
  size_t start = 0;
  while (start < line.size()) {
    const size_t end = std::min(line.find('\t', start), line.size());
    TF_RETURN_IF_ERROR(AddField(line.substr(start, end - start), user));
    start = end + 1;
  }
  return absl::OkStatus();
}

// Writes text into one place of a tensor of strings or int64.
absl::Status SetValue(const std::string& text, int64_t at, Tensor* tensor) {
  if (tensor->dtype() == tensorflow::DT_STRING) {
    tensor->flat<tensorflow::tstring>()(at) = text;
    return absl::OkStatus();
  }
  int64_t number = 0;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, number);
  if (parsed.ec != std::errc() || parsed.ptr != end) {
    return absl::InvalidArgumentError("expected an integer id; got " + text);
  }
  tensor->flat<int64_t>()(at) = number;
  return absl::OkStatus();
}

// Makes the input of one user: [1, values], or [1] for a profile column.
absl::Status MakeInput(const std::string& name,
                       const tensorflow::TensorInfo& info,
                       const std::vector<std::string>& values,
                       Tensor* tensor) {
  if (info.dtype() != tensorflow::DT_STRING &&
      info.dtype() != tensorflow::DT_INT64) {
    return absl::UnimplementedError("no strings and no int64: " + name);
  }
  const int64_t count = values.size();
  const bool column = info.tensor_shape().dim_size() == 1;
  if (column && count > 1) {
    return absl::InvalidArgumentError("more than one value for " + name);
  }
  *tensor = column ? Tensor(info.dtype(), {1})
                   : Tensor(info.dtype(), {1, count});
  for (int64_t at = 0; at < count; ++at) {
    TF_RETURN_IF_ERROR(SetValue(values[at], at, tensor));
  }
  return absl::OkStatus();
}

// Asks a signature for one user and prints the answer.
absl::Status Recommend(const tensorflow::SavedModelBundle& bundle,
                       const tensorflow::SignatureDef& signature,
                       int64_t number, const User& user) {
  for (const auto& [name, values] : user) {
    if (!signature.inputs().contains(name)) {
      return absl::InvalidArgumentError("the signature has no input " + name);
    }
  }
  std::vector<std::pair<std::string, Tensor>> inputs;
  for (const auto& [name, info] : signature.inputs()) {
    const auto given = user.find(name);
    Tensor tensor;
    TF_RETURN_IF_ERROR(MakeInput(
        name, info,
        given == user.end() ? std::vector<std::string>() : given->second,
        &tensor));
    inputs.emplace_back(info.name(), tensor);
  }
  std::vector<Tensor> outputs;
  TF_RETURN_IF_ERROR(
      bundle.session->Run(inputs,
                          {signature.outputs().at("item_ids").name(),
                           signature.outputs().at("scores").name()},
                          {}, &outputs));
  const Tensor& items = outputs[0];
  const auto scores = outputs[1].flat<float>();
  for (int64_t at = 0; at < scores.size(); ++at) {
    std::cout << number << '\t';
    if (items.dtype() == tensorflow::DT_STRING) {
      std::cout << std::string(items.flat<tensorflow::tstring>()(at));
    } else {
      std::cout << items.flat<int64_t>()(at);
    }
    std::cout << '\t' << scores(at) << '\n';
  }
  return absl::OkStatus();
}

absl::Status Main(const std::vector<std::string>& arguments) {
  if (arguments.size() < 2) {
    return absl::InvalidArgumentError(
        "expected VERSION SIGNATURE [NAME=VALUE..]");
  }
  tensorflow::SavedModelBundle bundle;
  TF_RETURN_IF_ERROR(tensorflow::LoadSavedModel({}, {}, arguments[0],
                                                {"serve"}, &bundle));
  const auto& signatures = bundle.GetSignatures();
  const auto found = signatures.find(arguments[1]);
  if (found == signatures.end() ||
      !found->second.outputs().contains("item_ids")) {
    return absl::NotFoundError("no signature that recommends is called " +
                               arguments[1]);
  }
  std::cout.precision(9);  // enough to tell every float32 from the next
  User user;
  if (arguments.size() > 2) {
    for (size_t at = 2; at < arguments.size(); ++at) {
      TF_RETURN_IF_ERROR(AddField(arguments[at], &user));
    }
    return Recommend(bundle, found->second, 0, user);
  }
  std::string line;
  for (int64_t number = 0; std::getline(std::cin, line); ++number) {
    user.clear();
    TF_RETURN_IF_ERROR(ParseLine(line, &user));
    TF_RETURN_IF_ERROR(Recommend(bundle, found->second, number, user));
  }
  return absl::OkStatus();
}

}  // namespace

int main(int argc, char** argv) {
  const absl::Status status =
      Main(std::vector<std::string>(argv + 1, argv + argc));
  if (!status.ok()) {
    std::cerr << "Error: " << status.message() << std::endl;
  }
  return status.ok() ? 0 : 1;
}
