// Parts of profile.json that other files hold too.

#pragma once

#include "saturn/profile/profile.h"

namespace saturn::profile {

Json to_json(const Trial& trial);
Trial trial_from_json(JsonReader reader);

Json to_json(const Conditions& conditions);
Conditions conditions_from_json(JsonReader reader);

}  // namespace saturn::profile
